"""The dispatcher, as a plain class: who gets which job, who waits, what a killed slot or a verdict changes."""

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.board import REMEMBERED
from search.dispatcher import Dispatcher
from search.job import Failed, Job, Measured, Ticket
from search.patience import PATIENCE_S
from search.queue import PASSES
from tests.toy import RECIPES, toy_problem
from tests.virtual import play
from trainables.matting.spec import BasePhase, MattingSpec


def ticket(name: str, replicate: int = 0, number: int = 0) -> Ticket:
    return Ticket(number, replicate, 0, tuple(RECIPES[name].params().items()))


def measured(step: int, final: bool = False) -> Measured:
    return Measured(step, {"val/miou": step / 10}, 1, 0, final)


@pytest.fixture
def make(toy_packs: Path) -> Any:
    return lambda share=True: Dispatcher(toy_problem(toy_packs), share=share, max_failures=2)


def test_jobs_go_out_in_order_and_a_ticket_counts_once(make: Any) -> None:
    async def scene() -> None:
        d = make()
        first, second = ticket("real", number=1), ticket("synthetic", number=2)
        for one in (first, second, first):
            await d.submit(one)
        assert (await d.take(0, "a", 0, 0)).id == first.id
        assert (await d.take(1, "b", 0, 0)).id == second.id
        assert await d.take(2, "c", 0.01, 0) == "wait"

    play(scene())


def test_a_job_waits_for_the_trunk_that_another_slot_trains(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one, two, other = ticket("finetune", number=1), ticket("finetune", number=2), ticket("real", number=3)
        for t in (one, two, other):
            await d.submit(t)
        job = await d.take(0, "a", 0, 0)
        assert job.id == one.id
        assert (await d.take(1, "b", 0, 0)).id == other.id  # number 2 needs the same trunk: number 3 goes first
        assert await d.take(2, "c", 0.01, 0) == "wait"
        trunk, last = job.path
        await d.milestone(0, "a", one.id, trunk.stage.key, trunk.steps, 0)
        assert await d.take(2, "c", 0.01, 0) == "wait"  # and the same last stage: it waits on
        await d.progress(0, "a", one.id, last.stage.key, 0, 0)
        assert await d.take(2, "c", 0.01, 0) == "wait"
        await d.report(0, "a", one.id, measured(6, final=True), 0)
        assert (await d.take(2, "c", 0, 0)).id == two.id

    play(scene())


def test_another_recipe_of_the_trunk_goes_on_as_soon_as_the_trunk_is_stored(make: Any) -> None:
    async def scene() -> None:
        d = make()
        # "synthetic" trains the stage that "finetune" starts from, and goes further.
        await d.submit(ticket("synthetic", number=1))
        await d.submit(ticket("finetune", number=2))
        job = await d.take(0, "a", 0, 0)
        waiting = asyncio.create_task(d.take(1, "b", 10, 0))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await d.milestone(0, "a", job.id, job.path[0].stage.key, 4, 0)
        other = await waiting
        assert other.id == ticket("finetune", number=2).id
        assert other.path[0].stage.key == job.path[0].stage.key

    play(scene())


def test_without_sharing_nothing_waits(make: Any) -> None:
    async def scene() -> None:
        d = make(share=False)
        await d.submit(ticket("synthetic", number=1))
        await d.submit(ticket("finetune", number=2))
        assert isinstance(await d.take(0, "a", 0, 0), Job)
        assert isinstance(await d.take(1, "b", 0, 0), Job)

    play(scene())


def test_a_question_queues_the_job_and_outcomes_arrive_in_order(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        waiting = asyncio.create_task(d.outcome(t, 0))
        again = asyncio.create_task(d.outcome(t, 0))  # Ray asks again where it cannot tell whether it was heard
        await asyncio.sleep(0)
        job = await d.take(0, "a", 0, 0)
        await d.report(0, "a", job.id, measured(3), 0)
        assert await waiting == await again == measured(3)
        assert await d.take(1, "b", 0, 0) == "wait"
        await d.report(0, "a", job.id, measured(6, final=True), 0)
        assert await d.outcome(t, 1) == measured(6, final=True)

    play(scene())


def test_a_dispatcher_that_was_restarted_books_what_is_trained_from_now_on(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        waiting = asyncio.create_task(d.outcome(t, 0))
        await asyncio.sleep(0)
        old = "00001-0-0-0"  # the slot's job, of which this dispatcher never heard
        assert not await d.progress(0, "a", old, "some stage", 7, 100)
        await d.released(0, "a", old, 101)
        job = await d.take(0, "a", 0, 101)
        assert await d.progress(0, "a", job.id, job.path[-1].stage.key, 0, 101)
        await d.report(0, "a", job.id, measured(3), 104)
        assert await waiting == replace(measured(3), steps_trained=3)
        assert (await d.snapshot())["steps_trained"] == 3

    play(scene())


def test_a_search_has_one_division_of_the_store(make: Any) -> None:
    async def scene() -> None:
        d = make()
        await d.submit(ticket("real"))
        here = {"torch": "2.13.0", "device": "NVIDIA A100"}
        await d.ready(0, "a", "1" * 16, here)
        await d.ready(1, "b", "2" * 16, here | {"device": "Tesla T4"})
        await d.ready(2, "c", "1" * 16, here)
        assert await d.take(1, "b", 0, 0) == "close"
        assert isinstance(await d.take(2, "c", 0, 0), Job)
        shot = await d.snapshot()
        assert shot["division"] == "1" * 16
        (error,) = shot["errors"].values()
        assert error.startswith("device must be the same on all slots of a search, but is 'Tesla T4' on slot 1 and")

    play(scene())


def test_an_outage_is_waited_out_whichever_worker_tells_of_it_and_not_without_end(make: Any) -> None:
    async def scene() -> None:
        d = make()
        await d.submit(ticket("real"))
        for outage, pause in enumerate(PATIENCE_S):
            me = (0, f"process {outage}")
            job = await d.take(*me, 0, 0)
            assert isinstance(job, Job)
            for _ in range(2):  # two workers of the slot
                assert await d.outage(*me, job.id, "OSError: away", 0, 0) == pause
            began = asyncio.get_running_loop().time()
            while await d.take(0, f"process {outage + 1}", 2.0, 0) == "wait":
                pass
            assert pause <= asyncio.get_running_loop().time() - began < pause + 2.1
        me = (0, f"process {len(PATIENCE_S)}")
        job = await d.take(*me, 0, 0)
        await d.beat(*me, 1)  # it wrote a checkpoint
        assert await d.outage(*me, job.id, "OSError: away", 1, 0) == PATIENCE_S[0]
        for _ in PATIENCE_S:
            while (job := await d.take(*me, 60.0, 0)) == "wait":
                pass
            more = await d.outage(*me, job.id, "OSError: away", 1, 0)
        assert more is None
        assert await d.take(*me, 0, 0) == "close"
        assert (await d.snapshot())["errors"] == {0: "OSError: away"}

    play(scene())


def test_a_slot_that_cannot_start_for_an_outage_may_try_again(make: Any) -> None:
    async def scene() -> None:
        d = make()
        for n, pause in enumerate(PATIENCE_S):
            for _ in range(2):
                assert await d.outage(0, f"process {n}", None, "PackError: away", 0, 0) == pause
            await asyncio.sleep(pause)
        assert await d.outage(0, "process", None, "PackError: away", 0, 0) is None
        assert (await d.snapshot())["errors"] == {0: "PackError: away"}

    play(scene())


def test_a_job_that_the_store_fails_alone_fails(make: Any) -> None:
    async def scene() -> None:
        d = make()
        bad = ticket("real")
        await d.submit(bad)
        slots = itertools.cycle((0, 1))
        for times in range(len(PATIENCE_S) + 1):
            slot, other = next(slots), next(slots)
            next(slots)
            while (job := await d.take(slot, "a", 60.0, 0)) == "wait":
                pass
            assert job.id == bad.id
            assert await d.outage(slot, "a", job.id, "OSError: no such object", 0, 0) is not None
            await d.beat(other, "a", times + 1)  # which writes a checkpoint of another job
        end = await d.outcome(bad, 0)
        assert isinstance(end, Failed)
        assert "OSError: no such object" in end.traceback
        assert (await d.snapshot())["errors"] == {}

    play(scene())


def test_a_killed_slot_gives_its_job_back_once_and_fails_it_twice(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real", number=1)
        await d.submit(t)
        await d.submit(ticket("mixed", number=2))
        await d.take(0, "a", 0, 0)
        await d.report(0, "a", t.id, measured(3), 0)
        assert (await d.take(0, "b", 0, 0)).id == t.id  # first in the queue again
        await d.report(0, "b", t.id, measured(3), 0)  # reported by both incarnations: it counts once
        assert (await d.take(0, "c", 0, 0)).id == ticket("mixed", number=2).id
        assert await d.outcome(t, 0) == measured(3)
        end = await d.outcome(t, 1)
        assert isinstance(end, Failed)
        assert "killed its slot 2 times" in end.error

    play(scene())


def test_a_verdict_reaches_the_slot_at_its_next_question(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        job = await d.take(0, "a", 0, 0)
        stage = job.path[0].stage.key
        assert await d.progress(0, "a", t.id, stage, 1, 0) is True
        await d.stop(t.id)
        assert await d.progress(0, "a", t.id, stage, 2, 0) is False
        await d.released(0, "a", t.id, 0)
        assert await d.take(0, "a", 0.01, 0) == "wait"

    play(scene())


def test_a_job_is_forgotten_when_the_scheduler_says_that_it_is_over_and_its_slot_has_left_it(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        job = await d.take(0, "a", 0, 0)
        stage = job.path[0].stage.key
        await d.report(0, "a", t.id, measured(3), 3)
        await d.stop(t.id)
        assert await d.outcome(t, 0) == replace(measured(3), steps_trained=3)  # a slot still has it
        assert await d.progress(0, "a", t.id, stage, 4, 4) is False
        await d.released(0, "a", t.id, 5)
        assert not d._board.entries
        await d.submit(t)  # a word that was late
        assert isinstance(await d.outcome(t, 0), Failed)
        assert await d.take(0, "a", 0.01, 0) == "wait"
        assert (await d.snapshot())["steps_trained"] == 5

    play(scene())


def test_a_failure_is_known_until_the_scheduler_has_asked_for_it(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        await d.take(0, "a", 0, 0)
        await d.report(0, "a", t.id, Failed("it broke", "Traceback"), 0)
        for _ in range(2):  # the trial that asked may have died with the answer
            assert await d.outcome(t, 0) == Failed("it broke", "Traceback")
        assert await d.failure(t.id) == Failed("it broke", "Traceback")
        await d.stop(t.id)
        assert await d.failure(t.id) is None
        assert not d._board.entries

    play(scene())


def test_what_is_remembered_does_not_grow_with_the_number_of_jobs(make: Any) -> None:
    async def scene() -> None:
        d = make()
        params = RECIPES["real"].params()
        sizes = []
        for number in range(2000):
            t = Ticket(number, 0, 0, tuple((params | {"lr": 0.001 * (number % 7 + 1)}).items()))
            await d.submit(t)
            job = await d.take(0, "a", 0, 0)
            assert job.id == t.id
            if number % 3 == 0:
                await d.report(0, "a", t.id, Failed("it broke", "Traceback"), 0)
            elif number % 3 == 1:
                await finish(d, 0, "a", job)
            else:
                await d.stop(t.id)
                await d.released(0, "a", t.id, 0)
            if number % 2:
                await d.submit(t)
            await d.stop(t.id)
            board = d._board
            sizes.append(len(board.entries) + len(board._over) + len(board.queue) + len(board.queue._groups))
        assert max(sizes) == REMEMBERED
        assert not d._board.entries

    play(scene())


def test_closing_ends_every_question(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        await d.take(0, "a", 0, 0)
        idle, waiting = asyncio.create_task(d.take(1, "b", 30, 0)), asyncio.create_task(d.outcome(t, 0))
        await asyncio.sleep(0.01)
        await d.close()
        assert await idle == "close"
        assert isinstance(await waiting, Failed)
        assert await d.progress(0, "a", t.id, "any", 1, 0) is False

    play(scene())


def test_steps_are_counted_over_incarnations_and_given_with_the_outcome(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        job = await d.take(0, "a", 0, 0)
        stage = job.path[0].stage.key
        await d.report(0, "a", t.id, measured(3), 3)
        await d.progress(0, "a", t.id, stage, 5, 5)
        await d.take(0, "b", 0, 0)  # killed after step 5; the checkpoint was of step 3
        await d.report(0, "b", t.id, measured(6, final=True), 3)
        end = await d.outcome(t, 1)
        assert isinstance(end, Measured)
        assert end.steps_trained == 8
        assert (await d.snapshot())["steps_trained"] == 8

    play(scene())


def test_the_first_of_several_failures_stands_and_a_late_one_frees_no_other_job(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one, two = ticket("real", number=1), ticket("mixed", number=2)
        await d.submit(one)
        await d.submit(two)
        await d.take(0, "a", 0, 0)
        await d.report(0, "a", one.id, Failed("first", "the true traceback"), 0)
        assert (await d.take(0, "a", 0, 0)).id == two.id
        await d.report(0, "a", one.id, Failed("second", "connection reset by peer"), 0)
        await d.released(0, "a", one.id, 0)
        assert (await d.failure(one.id)).traceback == "the true traceback"
        assert (await d.snapshot())["slots"][0]["job"] == two.id

    play(scene())


def test_a_lost_slot_gives_its_job_to_another_and_gets_no_more(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        await d.take(0, "a", 0, 0)
        await d.released(0, "a", t.id, 2)
        await d.lost(0, "a", "StoreError: no space")
        assert await d.take(0, "b", 0, 0) == "close"
        assert (await d.take(1, "c", 0, 0)).id == t.id
        assert (await d.snapshot())["errors"] == {0: "StoreError: no space"}

    play(scene())


def test_a_late_word_about_an_ended_job_changes_nothing(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one, two = ticket("real", number=1), ticket("mixed", number=2)
        await d.submit(one)
        await d.submit(two)
        job = await d.take(0, "a", 0, 0)
        await d.report(0, "a", one.id, measured(6, final=True), 0)
        await d.take(0, "a", 0, 0)
        assert await d.progress(0, "a", one.id, job.path[0].stage.key, 6, 0) is False
        assert (await d.snapshot())["slots"][0]["leg"] == "mixed"

    play(scene())


@pytest.mark.parametrize(
    ("name", "phased", "says"),
    [
        ("finetune", False, ["pretrain", "finetune"]),
        ("finetune", True, ["pretrain", "finetune phase 1", "finetune phase 2"]),
        ("mixed", True, ["mixed phase 1", "mixed phase 2"]),
    ],
)
def test_the_live_view_names_every_stage_of_a_path(toy_packs: Path, name: str, phased: bool, says: list[str]) -> None:
    async def scene() -> None:
        problem = toy_problem(toy_packs)
        if phased:
            problem = replace(
                problem, task=MattingSpec(kind="matting", phase="refine", base=BasePhase(steps=9, lr=0.1))
            )
        d = Dispatcher(problem, share=True, max_failures=2)
        await d.submit(ticket(name))
        job = await d.take(0, "a", 0, 0)
        seen = []
        for leg in job.path:
            await d.progress(0, "a", job.id, leg.stage.key, 0, 0)
            seen.append((await d.snapshot())["slots"][0]["leg"])
        assert seen == says

    play(scene())


def tuned(lr: float, number: int, trunk_lr: float = 0.05, after: int = 0) -> Ticket:
    """A fine-tune of the trunk with learning rate `trunk_lr`: another last stage for each `lr`."""
    recipe = RECIPES["finetune"].params() | {"pretrain.lr": trunk_lr, "lr": lr}
    return Ticket(number, 0, 0, tuple(recipe.items()), after)


async def finish(d: Dispatcher, slot: int, incarnation: str, job: Job) -> None:
    """What a slot says that trains a job to its end."""
    for leg in job.path:
        await d.progress(slot, incarnation, job.id, leg.stage.key, 0, 0)
        await d.milestone(slot, incarnation, job.id, leg.stage.key, leg.steps, 0)
    await d.report(slot, incarnation, job.id, measured(job.rungs[-1], final=True), 0)


def test_the_trunk_that_most_jobs_wait_for_goes_first(make: Any) -> None:
    async def scene() -> None:
        d = make()
        few, many = tuned(0.1, 1, trunk_lr=0.01), [tuned(lr, n, trunk_lr=0.02) for n, lr in enumerate((0.1, 0.2), 2)]
        for t in (few, *many):
            await d.submit(t)
        assert (await d.take(0, "a", 0, 0)).id == many[0].id
        assert (await d.take(1, "b", 0, 0)).id == few.id
        shot = await d.snapshot()
        assert shot["queued"] == 1
        ((waits, stage),) = shot["waiting"].items()
        assert waits == many[1].id
        assert shot["stages"]["waiting"] == {stage: 4}
        assert set(shot["stages"]["training"].values()) == {0}
        assert stage in shot["stages"]["training"]

    play(scene())


def test_a_slot_goes_on_with_the_weights_that_it_holds_and_others_with_what_is_nearest_to_a_rung(make: Any) -> None:
    async def scene() -> None:
        d = make()
        first, second, third = tuned(0.1, 1), tuned(0.2, 2), ticket("real", number=3)
        await d.submit(first)
        job = await d.take(0, "a", 0, 0)
        trunk, last = job.path
        await d.milestone(0, "a", job.id, trunk.stage.key, 4, 0)
        await d.progress(0, "a", job.id, last.stage.key, 0, 4)
        await d.milestone(0, "a", job.id, last.stage.key, 3, 0)
        await d.report(0, "a", job.id, measured(3), 7)
        await d.stop(first.id)
        assert await d.progress(0, "a", job.id, last.stage.key, 4, 8) is False
        await d.released(0, "a", job.id, 8)
        promoted = tuned(0.1, 1, after=3)  # the store has its checkpoint of step 3: three steps to the next rung
        for t in (third, second, promoted):
            await d.submit(t)
        assert (await d.take(1, "b", 0, 0)).id == third.id  # all are three steps from a rung: the first that came
        assert (await d.take(0, "a", 0, 0)).id == promoted.id
        assert (await d.take(2, "c", 0, 0)).id == second.id

    play(scene())


def test_a_job_far_from_its_rung_lets_nearer_ones_go_first_but_not_for_ever(make: Any) -> None:
    async def scene() -> None:
        d = make()
        far = tuned(0.1, 0)  # four steps of its trunk, and three more
        await d.submit(far)
        real = RECIPES["real"].params()
        near = [Ticket(n, 0, 0, tuple((real | {"lr": 0.01 * n}).items())) for n in range(1, PASSES + 5)]
        for t in near:
            await d.submit(t)
        order = []
        for _ in range(PASSES + 2):
            job = await d.take(0, "a", 0, 0)
            order.append(job.id)
            await finish(d, 0, "a", job)
        assert order == [*(t.id for t in near[:PASSES]), far.id, near[PASSES].id]

    play(scene())


def test_a_job_that_needs_no_training_goes_first_even_while_its_stage_is_trained(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one, again = ticket("real", number=1), ticket("real", number=2)
        await d.submit(one)
        job = await d.take(0, "a", 0, 0)
        stage = job.path[0].stage.key
        await d.submit(ticket("mixed", number=3))
        await d.submit(again)
        assert again.id in (await d.snapshot())["waiting"]
        await d.milestone(0, "a", one.id, stage, 3, 0)
        assert (await d.take(1, "b", 0, 0)).id == again.id
        await d.report(1, "b", again.id, measured(3), 0)
        # Its next rung is not there yet, and the stage is another slot's: it is given back, and waits.
        assert await d.progress(1, "b", again.id, stage, 3, 0) is False
        assert await d.progress(0, "a", one.id, stage, 5, 5) is True
        await d.released(1, "b", again.id, 0)
        assert (await d.take(1, "b", 0, 0)).id == ticket("mixed", number=3).id
        assert (await d.snapshot())["waiting"] == {again.id: stage}
        await d.milestone(0, "a", one.id, stage, 6, 0)
        assert (await d.take(2, "c", 0, 0)).id == again.id
        assert isinstance(await d.outcome(again, 0), Measured)

    play(scene())


def test_a_word_that_arrives_after_newer_ones_changes_nothing(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one = ticket("finetune", number=1)
        await d.submit(one)
        job = await d.take(0, "a", 0, 0)
        trunk, last = (leg.stage.key for leg in job.path)
        await d.milestone(0, "a", one.id, trunk, 4, 4)
        await d.progress(0, "a", one.id, last, 1, 5)
        before = await d.snapshot()
        assert await d.progress(0, "a", one.id, trunk, 0, 0) is False  # no longer the slot's
        assert await d.progress(0, "a", one.id, last, 0, 4) is True
        after = await d.snapshot()
        assert after["stages"] == before["stages"] == {"trained": {trunk: 4}, "training": {last: 1}, "waiting": {}}
        assert after["steps_trained"] == 5
        await d.stop(one.id)
        assert await d.progress(0, "a", one.id, trunk, 3, 3) is False

    play(scene())


def test_what_the_store_has_lost_is_trained_once_again(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one, two, three = tuned(0.1, 1), tuned(0.2, 2), tuned(0.3, 3)
        await d.submit(one)
        job = await d.take(0, "a", 0, 0)
        trunk = job.path[0].stage.key
        await finish(d, 0, "a", job)
        await d.submit(two)
        await d.submit(three)
        assert (await d.take(0, "a", 0, 0)).id == two.id
        assert (await d.take(1, "b", 0, 0)).id == three.id  # the trunk is there, and their last stages differ
        assert await d.progress(0, "a", two.id, trunk, 0, 0) is True  # but it is not
        assert await d.progress(1, "b", three.id, trunk, 0, 0) is False
        await d.released(1, "b", three.id, 0)
        assert await d.take(1, "b", 1, 0) == "wait"
        await d.milestone(0, "a", two.id, trunk, 4, 0)
        assert (await d.take(1, "b", 0, 0)).id == three.id

    play(scene())


def test_a_silent_slot_loses_its_job_and_what_it_says_later_changes_nothing(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real", number=1)
        await d.submit(t)
        job = await d.take(0, "a", 0, 0)
        stage = job.path[0].stage.key
        other = asyncio.create_task(keep_asking(d, 1, "b"))
        await asyncio.sleep(15)
        assert not other.done()  # a pause of some seconds is no death
        await d.beat(0, "a", 0)
        await asyncio.sleep(15)
        assert not other.done()
        assert await d.present() == [0, 1]
        assert (await asyncio.wait_for(other, 10)).id == t.id
        assert await d.present() == [1]
        shot = await d.snapshot()
        assert shot["slots"][0]["silent"]
        assert shot["slots"][1]["job"] == t.id
        assert await d.progress(0, "a", t.id, stage, 2, 2) is False
        await d.report(0, "a", t.id, Failed("late", "late"), 0)
        await d.released(0, "a", t.id, 0)
        await d.milestone(0, "a", t.id, stage, 3, 0)
        shot = await d.snapshot()
        assert shot["progress"] == {stage: 3}
        assert not shot["slots"][0]["silent"]
        assert shot["slots"][1]["job"] == t.id
        await d.report(1, "b", t.id, measured(6, final=True), 0)
        assert (await d.outcome(t, 0)).final

    play(scene())


async def keep_asking(d: Dispatcher, slot: int, incarnation: str) -> Job:
    while not isinstance(job := await d.take(slot, incarnation, 2, 0), Job):
        assert job == "wait"
    return job


def test_a_dispatcher_that_was_away_itself_calls_nobody_silent(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real", number=1)
        await d.submit(t)
        job = await d.take(0, "a", 0, 0)
        await asyncio.sleep(60)  # its process was stopped: the words of the slot wait to be heard
        assert not (await d.snapshot())["slots"][0]["silent"]
        await d.beat(0, "a", 0)
        assert await d.progress(0, "a", t.id, job.path[0].stage.key, 1, 1)

    play(scene())


def test_a_process_that_was_replaced_gets_no_work_while_the_new_one_speaks(make: Any) -> None:
    async def scene() -> None:
        d = make()
        waiting = asyncio.create_task(d.take(0, "a", 30, 0))
        await asyncio.sleep(1)
        await d.beat(0, "b", 0)
        assert await waiting == "wait"
        await d.submit(ticket("real"))
        assert await d.take(0, "a", 2, 0) == "wait"
        await d.lost(0, "a", "no packs")
        assert (await d.snapshot())["errors"] == {}
        job = await d.take(0, "b", 0, 0)
        # The late first words of "b" came after its death: "a" is the slot after all.
        assert (await keep_asking(d, 0, "a")).id == job.id
        assert 20 < asyncio.get_running_loop().time() < 30

    play(scene())


def test_a_stage_that_another_search_trains_is_looked_at_every_two_seconds(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one, two, other = tuned(0.1, 1), tuned(0.2, 2), ticket("real", number=3)
        for t in (one, two):
            await d.submit(t)
        job = await d.take(0, "a", 0, 0)
        trunk = job.path[0].stage.key
        await d.leased(0, "a", one.id, trunk, 60.0, 0)
        assert await d.take(0, "a", 1, 0) == "wait"  # both jobs wait for it
        assert (await d.snapshot())["waiting"] == {one.id: trunk, two.id: trunk}
        assert await d.blocked() == 2
        await d.submit(other)
        assert (await d.take(0, "a", 0, 0)).id == other.id
        assert await d.blocked() == 0
        looks = await d.take(1, "b", 2, 0)
        assert looks.id == one.id
        await d.milestone(1, "b", one.id, trunk, 4, 0)  # the other search is done
        assert (await d.take(2, "c", 0, 0)).id == two.id

    play(scene())


def test_a_stop_that_comes_too_late_twice_or_for_nobody_changes_nothing(make: Any) -> None:
    async def scene() -> None:
        d = make()
        done, stopped = ticket("real", number=1), ticket("mixed", number=2)
        for t in (done, stopped):
            await d.submit(t)
        await finish(d, 0, "a", await d.take(0, "a", 0, 0))
        assert (await d.outcome(done, 0)).final
        await d.stop(done.id)
        await d.stop("nobody")
        job = await d.take(0, "a", 0, 0)
        await d.report(0, "a", job.id, measured(3), 0)
        waiting = asyncio.create_task(d.outcome(stopped, 1))
        await asyncio.sleep(0)
        await d.stop(stopped.id)
        await d.stop(stopped.id)
        assert (await waiting).error == "the job was stopped"
        await d.report(0, "a", job.id, measured(6, final=True), 0)  # was on its way
        assert isinstance(await d.outcome(stopped, 1), Failed)
        again = replace(stopped, after=3)
        await d.submit(again)
        assert (await d.take(0, "a", 0, 0)).rungs == (6,)

    play(scene())


def test_seconds_with_a_job_are_spent_and_the_idle_share_begins_with_the_first(make: Any) -> None:
    async def scene() -> None:
        d = make()
        waiting = asyncio.create_task(d.take(0, "a", 100, 0))
        await asyncio.sleep(10)
        await d.beat(0, "a", 0)
        assert await d.blocked() == 0  # nothing waits
        await d.submit(ticket("real"))
        job = await waiting
        await asyncio.sleep(6)
        assert (await d.snapshot())["spent_s"] == 6
        await finish(d, 0, "a", job)
        await asyncio.sleep(2)
        shot = await d.snapshot()
        assert shot["slots"][0]["busy_s"] == shot["spent_s"] == 6
        assert shot["slots"][0]["idle"] == pytest.approx(2 / 8)

    play(scene())
