"""The dispatcher, as a plain class: who gets which job, who waits, what a killed slot or a verdict changes."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.dispatcher import Dispatcher
from search.job import Failed, Job, Measured, Ticket, Unknown
from tests.toy import RECIPES, toy_problem
from trainables.matting.spec import BasePhase, MattingSpec


def ticket(name: str, replicate: int = 0, number: int = 0) -> Ticket:
    return Ticket(number, replicate, 0, tuple(RECIPES[name].params().items()))


def measured(step: int, final: bool = False) -> Measured:
    return Measured(step, {"val/miou": step / 10}, 1, 0, final)


@pytest.fixture
def make(toy_packs: Path) -> Any:
    return lambda share=True: Dispatcher(toy_problem(toy_packs), share=share, max_failures=2)


def play(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))


def test_jobs_go_out_in_order_and_a_ticket_counts_once(make: Any) -> None:
    async def scene() -> None:
        d = make()
        first, second = ticket("real", number=1), ticket("synthetic", number=2)
        for one in (first, second, first):
            await d.submit(one)
        assert (await d.take(0, "a", 0)).id == first.id
        assert (await d.take(1, "b", 0)).id == second.id
        assert await d.take(2, "c", 0.01) == "wait"

    play(scene())


def test_a_job_waits_for_the_trunk_that_another_slot_trains(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one, two, other = ticket("finetune", number=1), ticket("finetune", number=2), ticket("real", number=3)
        for t in (one, two, other):
            await d.submit(t)
        job = await d.take(0, "a", 0)
        assert job.id == one.id
        assert (await d.take(1, "b", 0)).id == other.id  # number 2 needs the same trunk: number 3 goes first
        assert await d.take(2, "c", 0.01) == "wait"
        trunk, last = job.path
        await d.milestone(0, one.id, trunk.stage.key, trunk.steps)
        assert await d.take(2, "c", 0.01) == "wait"  # and the same last stage: it waits on
        await d.progress(0, one.id, last.stage.key, 0, 0)
        assert await d.take(2, "c", 0.01) == "wait"
        await d.report(0, one.id, measured(6, final=True), 0)
        assert (await d.take(2, "c", 0)).id == two.id

    play(scene())


def test_another_recipe_of_the_trunk_goes_on_as_soon_as_the_trunk_is_stored(make: Any) -> None:
    async def scene() -> None:
        d = make()
        # "synthetic" trains the stage that "finetune" starts from, and goes further.
        await d.submit(ticket("synthetic", number=1))
        await d.submit(ticket("finetune", number=2))
        job = await d.take(0, "a", 0)
        waiting = asyncio.create_task(d.take(1, "b", 10))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert job.path[0].stage.key == Job.of(ticket("finetune"), d._problem, share=True).path[0].stage.key
        await d.milestone(0, job.id, job.path[0].stage.key, 4)
        assert (await waiting).id == ticket("finetune", number=2).id

    play(scene())


def test_without_sharing_nothing_waits(make: Any) -> None:
    async def scene() -> None:
        d = make(share=False)
        await d.submit(ticket("synthetic", number=1))
        await d.submit(ticket("finetune", number=2))
        assert isinstance(await d.take(0, "a", 0), Job)
        assert isinstance(await d.take(1, "b", 0), Job)

    play(scene())


def test_outcomes_arrive_in_order_and_unknown_jobs_say_so(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        assert isinstance(await d.outcome(t.id, 0), Unknown)
        await d.submit(t)
        waiting = asyncio.create_task(d.outcome(t.id, 0))
        job = await d.take(0, "a", 0)
        await d.report(0, job.id, measured(3), 0)
        assert await waiting == measured(3)
        await d.report(0, job.id, measured(6, final=True), 0)
        assert await d.outcome(t.id, 1) == measured(6, final=True)

    play(scene())


def test_a_killed_slot_gives_its_job_back_once_and_fails_it_twice(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real", number=1)
        await d.submit(t)
        await d.submit(ticket("mixed", number=2))
        await d.take(0, "a", 0)
        await d.report(0, t.id, measured(3), 0)
        assert (await d.take(0, "b", 0)).id == t.id  # first in the queue again
        await d.report(0, t.id, measured(3), 0)  # reported by both incarnations: it counts once
        assert (await d.take(0, "c", 0)).id == ticket("mixed", number=2).id
        assert await d.outcome(t.id, 0) == measured(3)
        end = await d.outcome(t.id, 1)
        assert isinstance(end, Failed)
        assert "killed its slot 2 times" in end.error

    play(scene())


def test_a_verdict_reaches_the_slot_at_its_next_question(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        job = await d.take(0, "a", 0)
        stage = job.path[0].stage.key
        assert await d.progress(0, t.id, stage, 1, 0) is True
        await d.stop(t.id)
        assert await d.progress(0, t.id, stage, 2, 0) is False
        await d.released(0, t.id, 0)
        assert await d.take(0, "a", 0.01) == "wait"

    play(scene())


def test_closing_ends_every_question(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        await d.take(0, "a", 0)
        idle, waiting = asyncio.create_task(d.take(1, "b", 30)), asyncio.create_task(d.outcome(t.id, 0))
        await asyncio.sleep(0.01)
        await d.close()
        assert await idle == "close"
        assert isinstance(await waiting, Failed)
        assert await d.progress(0, t.id, "any", 1, 0) is False

    play(scene())


def test_steps_are_counted_over_incarnations_and_given_with_the_outcome(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        job = await d.take(0, "a", 0)
        stage = job.path[0].stage.key
        await d.report(0, t.id, measured(3), 3)
        await d.progress(0, t.id, stage, 5, 5)
        await d.take(0, "b", 0)  # killed after step 5; the checkpoint was of step 3
        await d.report(0, t.id, measured(6, final=True), 3)
        end = await d.outcome(t.id, 1)
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
        await d.take(0, "a", 0)
        await d.report(0, one.id, Failed("first", "the true traceback"), 0)
        assert (await d.take(0, "a", 0)).id == two.id
        await d.report(0, one.id, Failed("second", "connection reset by peer"), 0)
        await d.released(0, one.id, 0)
        assert (await d.failure(one.id)).traceback == "the true traceback"
        assert (await d.snapshot())["slots"][0]["job"] == two.id

    play(scene())


def test_a_lost_slot_gives_its_job_to_another_and_gets_no_more(make: Any) -> None:
    async def scene() -> None:
        d = make()
        t = ticket("real")
        await d.submit(t)
        await d.take(0, "a", 0)
        await d.released(0, t.id, 2)
        await d.lost(0, "StoreError: no space")
        assert await d.take(0, "b", 0) == "close"
        assert (await d.take(1, "c", 0)).id == t.id
        assert (await d.snapshot())["errors"] == {0: "StoreError: no space"}

    play(scene())


def test_a_late_word_about_an_ended_job_changes_nothing(make: Any) -> None:
    async def scene() -> None:
        d = make()
        one, two = ticket("real", number=1), ticket("mixed", number=2)
        await d.submit(one)
        await d.submit(two)
        job = await d.take(0, "a", 0)
        await d.report(0, one.id, measured(6, final=True), 0)
        other = await d.take(0, "a", 0)
        assert await d.progress(0, one.id, job.path[0].stage.key, 6, 0) is False
        assert (await d.snapshot())["slots"][0]["leg"] == f"mixed of {other.path[0].steps}"

    play(scene())


@pytest.mark.parametrize(
    ("name", "phased", "says"),
    [
        ("finetune", False, ["pretrain of 4", "finetune of 6"]),
        ("finetune", True, ["pretrain of 4", "finetune phase 1 of 9", "finetune phase 2 of 6"]),
        ("mixed", True, ["mixed phase 1 of 9", "mixed phase 2 of 6"]),
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
        job = await d.take(0, "a", 0)
        seen = []
        for leg in job.path:
            await d.progress(0, job.id, leg.stage.key, 0, 0)
            seen.append((await d.snapshot())["slots"][0]["leg"])
        assert seen == says

    play(scene())
