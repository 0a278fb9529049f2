"""Whatever slots, verdicts, other searches and the network do: every recipe ends once, and nothing hangs.

Simulated slots talk with the real dispatcher in virtual time, and train as `trainables.loop.Trainer` does, in a store
that is a set of steps. They are killed, cut off and restarted; their words are late, and those of the dead come too.
"""

import asyncio
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.dispatcher import Dispatcher
from search.job import Failed, Job, Measured, Ticket
from search.roster import BEAT_S
from tests.toy import RECIPES, toy_problem
from tests.virtual import play
from trainables.recipe import Recipe

MAX_FAILURES = 3
RUNGS = (2, 4, 6, 9)
DIVERGED = "diverged"


@dataclass(frozen=True)
class Plan:
    """One search and its bad luck. Times are virtual seconds; `picks` choose among the stages of all recipes."""

    recipes: list[tuple[str, float]]  # name in tests.toy.RECIPES, and a factor of its last learning rate
    slots: int
    seed: int
    stops: float  # share of the rungs at which a verdict stops a recipe
    kills: list[tuple[float, int]]  # when, which slot
    silences: list[tuple[float, int, float]]  # when, which slot, how long nothing of it gets through
    leases: list[tuple[int, float, float]]  # pick, from, for how long another search trains the stage
    diverging: list[int]  # picks: training the stage fails
    poisonous: list[int]  # picks: training the stage kills the slot
    stored: list[int]  # picks: what an earlier search left, of which the dispatcher knows nothing
    losses: list[tuple[float, int]]  # when, picks: the store loses all checkpoints of a stage


times = st.floats(0, 60)
picks = st.integers(0, 1000)
plans = st.builds(
    Plan,
    recipes=st.lists(
        st.tuples(st.sampled_from([*RECIPES, "finetune", "finetune real_bn"]), st.sampled_from([1.0, 2.0, 3.0])),
        min_size=1,
        max_size=8,
    ),
    slots=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    stops=st.sampled_from([0.0, 0.3, 0.7]),
    kills=st.lists(st.tuples(times, st.integers(0, 4)), max_size=4),
    silences=st.lists(st.tuples(times, st.integers(0, 4), st.floats(1, 60)), max_size=3),
    leases=st.lists(st.tuples(picks, times, st.floats(1, 40)), max_size=3),
    diverging=st.lists(picks, max_size=1),
    poisonous=st.lists(picks, max_size=1),
    stored=st.lists(picks, max_size=3),
    losses=st.lists(st.tuples(times, picks), max_size=3),
)


class Interrupted(Exception): ...


class Leased(Exception): ...


class Diverged(Exception): ...


class Died(Exception): ...


@dataclass(eq=False)
class Process:
    """One incarnation of a slot."""

    slot: int
    name: str
    trained: int = 0


@dataclass
class World:
    plan: Plan
    dispatcher: Dispatcher
    jobs: list[Job]
    random: random.Random
    store: dict[str, set[int]] = field(default_factory=dict)
    evaluated: set[tuple[str, int]] = field(default_factory=set)
    cut_off: dict[int, float] = field(default_factory=dict)  # slot -> until
    inside: dict[str, dict[Process, bool]] = field(default_factory=dict)  # stage -> who trains it, and was told it may
    stopped: set[str] = field(default_factory=set)
    running: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    calls: set[asyncio.Task[Any]] = field(default_factory=set)
    closing: bool = False

    def __post_init__(self) -> None:
        stages = sorted({(leg.stage.key, leg.steps) for job in self.jobs for leg in job.path})
        pick = [stages[n % len(stages)] for n in range(1001)]
        self.losses = [(when, pick[n][0]) for when, n in self.plan.losses]
        self.diverging = {pick[n][0] for n in self.plan.diverging}
        self.poisonous = {pick[n][0] for n in self.plan.poisonous}
        for n in self.plan.stored:
            self.store[pick[n][0]] = {pick[n][1]}
        self.leases = [(pick[n][0], start, start + length) for n, start, length in self.plan.leases]

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # -- words -------------------------------------------------------------------------------------------------

    def send(self, what: str, *words: Any, process: Process | None = None) -> asyncio.Task[Any]:
        """A call that travels for a while, and arrives also if its sender has died."""

        async def call() -> Any:
            await asyncio.sleep(self.random.choice((0, 0.01, 0.3)))
            if process is not None:
                while self.now < self.cut_off.get(process.slot, 0):
                    await asyncio.sleep(1)
            who = (process.slot, process.name) if process is not None else ()
            answer = await getattr(self.dispatcher, what)(*who, *words)
            if what == "stop":
                self.stopped.add(words[0])
            if what == "progress" and answer:
                self.may_train(process, *words)
            await self.consistent()
            await asyncio.sleep(self.random.choice((0, 0.01, 0.3)))
            return answer

        task = asyncio.create_task(call())
        self.calls.add(task)
        return task

    async def say(self, what: str, *words: Any, process: Process | None = None) -> Any:
        return await asyncio.shield(self.send(what, *words, process=process))

    def may_train(self, process: Process, job: str, stage: str, step: int, trained: int) -> None:
        """A slot was told to train on: no verdict was against it, and no other slot was told the same."""
        assert job not in self.stopped
        others = self.inside.get(stage, {})
        assert not [one.name for one, told in others.items() if told and one is not process]
        if process in others:
            others[process] = True

    async def consistent(self) -> None:
        """Every job that has not ended is queued or has one slot; every stage has one slot at most."""
        shot = await self.dispatcher.snapshot()
        at_work = [slot["job"] for slot in shot["slots"].values() if slot["job"]]
        assert len(at_work) == len(set(at_work))
        board = self.dispatcher._board
        unfinished = {job for job, entry in board.entries.items() if not entry.ended}
        assert len(unfinished - set(at_work)) == shot["queued"]
        assert set(shot["stages"]["training"]) == set(board.queue.training)

    # -- slots -------------------------------------------------------------------------------------------------

    async def slot(self, number: int) -> None:
        """A slot that is started again whenever it dies."""
        for incarnation in range(1000):
            process = Process(number, f"{number}.{incarnation}")
            self.running[number] = asyncio.create_task(self.live(process))
            await asyncio.wait([self.running[number]])
            if not self.running[number].cancelled():
                error = self.running[number].exception()
                if error is None:
                    return
                if not isinstance(error, Died):
                    raise error
            await asyncio.sleep(self.random.choice((0, 1, 5, 40)))

    async def live(self, process: Process) -> None:
        beats = asyncio.create_task(self.beat(process))
        try:
            while True:
                job = await self.say("take", 2.0, process.trained, process=process)
                if job == "close":
                    assert self.closing
                    return
                if isinstance(job, Job):
                    await self.work(process, job)
        finally:
            beats.cancel()

    async def beat(self, process: Process) -> None:
        while True:
            self.send("beat", 0, process=process)
            await asyncio.sleep(BEAT_S)

    async def work(self, process: Process, job: Job) -> None:
        question: list[asyncio.Task[bool]] = []
        asked = ""

        def control(stage: str, step: int) -> bool:
            nonlocal asked
            if question and question[0].done() and not question.pop().result() and asked == stage:
                return False
            if not question and (asked != stage or self.random.random() < 0.7):
                question.append(self.send("progress", job.id, stage, step, process.trained, process=process))
                asked = stage
            return True

        try:
            for rung in job.rungs:
                last = job.path[-1].stage.key
                if (last, rung) not in self.evaluated:
                    await self.reach(process, job, len(job.path) - 1, rung, control)
                    await asyncio.sleep(self.random.random())
                    self.evaluated.add((last, rung))
                else:
                    self.send("milestone", job.id, last, rung, process.trained, process=process)
                outcome = Measured(rung, {}, 0, 0, final=rung == job.rungs[-1])
                await self.say("report", job.id, outcome, process.trained, process=process)
        except Interrupted:
            await self.say("released", job.id, process.trained, process=process)
        except Leased as lease:
            stage, until = lease.args
            await self.say("leased", job.id, stage, until - self.now, process.trained, process=process)
        except Diverged:
            await self.say("report", job.id, Failed(DIVERGED, DIVERGED), process.trained, process=process)

    async def reach(self, process: Process, job: Job, k: int, target: int, control: Any) -> None:
        leg = job.path[k]
        stage = leg.stage.key
        step = max((one for one in self.store.get(stage, ()) if one <= target), default=-1)
        if step < 0:
            if k:
                await self.reach(process, job, k - 1, job.path[k - 1].steps, control)
            step = 0
        for leased, start, until in self.leases:
            if leased == stage and start <= self.now < until and step < target:
                raise Leased(stage, until)
        inside = self.inside.setdefault(stage, {})
        inside[process] = False
        try:
            while step < target:
                if not control(stage, step):
                    if step:
                        self.store.setdefault(stage, set()).add(step)
                    raise Interrupted
                await asyncio.sleep(self.random.uniform(0.1, 1))
                step += 1
                process.trained += 1
                if stage in self.diverging:
                    raise Diverged
                if stage in self.poisonous:
                    raise Died
                if step in leg.keep and step < target:
                    self.store.setdefault(stage, set()).add(step)
                    self.send("milestone", job.id, stage, step, process.trained, process=process)
        finally:
            del inside[process]
        self.store.setdefault(stage, set()).add(target)
        self.send("milestone", job.id, stage, target, process.trained, process=process)

    async def kill(self, at: float, slot: int) -> None:
        await asyncio.sleep(at)
        if slot in self.running:
            self.running[slot].cancel()

    async def silence(self, at: float, slot: int, length: float) -> None:
        await asyncio.sleep(at)
        self.cut_off[slot] = self.now + length
        while self.now < self.cut_off[slot]:  # its job may be another's by now: it trains on, and that is waste alone
            for inside in self.inside.values():
                inside.update({process: False for process in inside if process.slot == slot})
            await asyncio.sleep(0.05)

    async def lose(self, at: float, stage: str) -> None:
        await asyncio.sleep(at)
        self.store.pop(stage, None)

    # -- trials ------------------------------------------------------------------------------------------------

    async def recipe(self, ticket: Ticket) -> tuple[list[int], str]:
        """A recipe's rungs, in the order in which they were delivered, and how it ended."""
        rungs: list[int] = []
        while True:
            seen = 0
            while True:
                outcome = await self.say("outcome", ticket, seen)
                if isinstance(outcome, Failed):
                    assert (await self.say("failure", ticket.id)).error == outcome.error
                    await self.over(ticket)
                    return rungs, outcome.error
                rungs.append(outcome.step)
                seen += 1
                if outcome.final:
                    await self.over(ticket)
                    return rungs, "complete"
                if self.random.random() < self.plan.stops:
                    break
            await self.over(ticket)
            if self.random.random() < 0.3:
                return rungs, "stopped"
            await asyncio.sleep(self.random.choice((0, 0, 1, 30)))
            ticket = replace(ticket, after=rungs[-1])  # promoted

    async def over(self, ticket: Ticket) -> None:
        """The scheduler's last word, once or twice; what a trial said before may arrive after it."""
        await self.say("stop", ticket.id)
        if self.random.random() < 0.5:
            late = await self.say("outcome", ticket, 99)
            assert isinstance(late, Failed)
            await self.say("stop", ticket.id)

    async def run(self, tickets: list[Ticket]) -> list[tuple[list[int], str]]:
        plan = self.plan
        slots = [asyncio.create_task(self.slot(n)) for n in range(plan.slots)]
        luck = [asyncio.create_task(self.kill(*one)) for one in plan.kills]
        luck += [asyncio.create_task(self.silence(*one)) for one in plan.silences]
        luck += [asyncio.create_task(self.lose(*one)) for one in self.losses]
        ends = asyncio.gather(*(self.recipe(ticket) for ticket in tickets))
        await asyncio.wait([ends, *slots], return_when=asyncio.FIRST_COMPLETED)
        for slot in slots:
            assert not slot.done() or slot.result() is None
        results = await ends
        await self.say("stop", "nobody")
        self.closing = True
        await self.say("close")
        await asyncio.gather(*slots, *luck)
        for call in [*self.calls]:  # what a word broke would otherwise be lost with its sender
            await call
        assert not self.dispatcher._board.entries
        return results


def ticket_of(number: int, name: str, factor: float) -> Ticket:
    params = RECIPES[name].params()
    recipe = Recipe.from_params(params | {"lr": params["lr"] * factor})
    return Ticket(number, 0, 0, tuple(recipe.params().items()))


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=plans)
def test_every_recipe_ends_once_whatever_happens(toy_packs: Path, plan: Plan) -> None:
    problem = replace(toy_problem(toy_packs), rungs=RUNGS, forks=(4, 5))
    tickets = [ticket_of(n, *one) for n, one in enumerate(plan.recipes)]
    jobs = [Job.of(ticket, problem, share=True) for ticket in tickets]
    world = World(plan, Dispatcher(problem, share=True, max_failures=MAX_FAILURES), jobs, random.Random(plan.seed))
    ends = play(world.run(tickets), seconds=5000)
    bad_luck = len(plan.kills) + len(plan.silences)
    for job, (rungs, end) in zip(jobs, ends, strict=True):
        stages = {leg.stage.key for leg in job.path}
        assert rungs == list(RUNGS[: len(rungs)])  # each once, in order, over all of its tickets
        if end == "complete":
            assert rungs == list(RUNGS)
        elif end == DIVERGED:
            assert stages & world.diverging
        elif end == f"the trial killed its slot {MAX_FAILURES} times (slots.max_failures={MAX_FAILURES})":
            assert stages & world.poisonous or bad_luck >= MAX_FAILURES
        else:
            assert end == "stopped"
            assert plan.stops
