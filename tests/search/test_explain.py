"""Explain, on real studies without Ray: what it says of a trial is what its search did with it."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.explain import Story
from search.study import asked_trials, read_study
from tests.search.test_rungs import RUNGS, Search, changes, miou
from trainables.path import steps_shared

ENQUEUED = "\nenqueue: [{schedule: real_only, real_fraction: 1.0, lr: 0.05}]"


def stories(search: Search, share: bool = True) -> list[Story]:
    """Of each trial, from the study as another process reads it."""
    trials = asked_trials(read_study("toy", Path(search.study.user_attrs["folder"])))
    return [Story(search.config, search.problem, trials, number, share) for number in range(len(trials))]


def searched(packs: Path, folder: Path, file: dict[str, str], most: int = 10_000, **options: Any) -> Search:
    search = Search(packs, folder, file, miou, **options)
    search.study.set_user_attr("folder", str(folder))
    search.run(random.Random(0), most)
    return search


def test_it_says_why_a_trial_was_proposed(toy_packs: Path, tmp_path: Path) -> None:
    costs = iter(range(100, 0, -1))  # each draw costs less than the one before
    file = changes(14, rest="pruner: {kind: asha, factor: 3}" + ENQUEUED)
    file["sampler: grid"] = file["sampler: grid"].replace("random", "tpe")
    search = searched(toy_packs, tmp_path, file, cost=lambda recipe: next(costs))
    lines = {number: story.proposed() for number, story in enumerate(stories(search))}
    assert lines[0] == ["the search file names it under `enqueue`; 0 were asked before"]
    assert lines[1][0] == "by tpe, at random: it learns from 10 ended recipes on; 1 were asked before"
    assert lines[13][0] == "by tpe, from what the trials before it had reached; 13 were asked before"
    drawn = [line for said in lines.values() for line in said[1:]]
    assert drawn
    for line in drawn:
        found = re.fullmatch(r"the cheapest of (\d) draws: they lacked ([\d, ]+) steps in the store then", line)
        assert found
        took = [int(steps) for steps in found[2].split(", ")]
        assert took == list(range(took[0], took[0] + int(found[1])))


def test_it_says_what_a_trial_reached_and_where_it_was_left_behind(toy_packs: Path, tmp_path: Path) -> None:
    search = searched(toy_packs, tmp_path, changes(27))
    states = {trial.number: trial.state for trial in search.study.trials}
    assert set(states.values()) == {TrialState.COMPLETE, TrialState.PRUNED}
    for said in stories(search):
        number, state = said.trial.number, said.trial.state
        reached = [rung for rung in RUNGS if rung <= search.reached[number, 0]]
        ranks = []
        for rung in reached:
            here = [miou(n, 0, rung) for n in states if search.reached[n, 0] >= rung]
            ranks.append(f"{sorted(here, reverse=True).index(miou(number, 0, rung)) + 1} of {len(here)} there")
        expected = [
            f"step {rung:>7}: val/miou {miou(number, 0, rung):.4g}, {rank}"
            for rung, rank in zip(reached, ranks, strict=True)
        ]
        assert said.reached() == expected
        (end,) = said.ended()
        if state is TrialState.COMPLETE:
            assert end == f"completed: val/miou {miou(number, 0, 6):.4g}, mean of 1 seed"
        else:
            went_on = sum(steps > reached[-1] for steps in search.reached.values())
            assert end == (
                f"left behind at rung {len(reached)} of 3, step {reached[-1]}: {ranks[-1]}, of which asha let"
                f" {went_on} go on"
            )


def test_it_says_so_while_the_search_runs(toy_packs: Path, tmp_path: Path) -> None:
    search = searched(toy_packs, tmp_path, changes(27), most=12)
    ends = {story.trial.number: story.ended()[0] for story in stories(search)}
    waiting = {number for number, end in ends.items() if end.startswith("not yet: it waits at step ")}
    training = {number for number, end in ends.items() if end.startswith("not yet: it is being trained")}
    assert waiting
    assert training
    over = {trial.number for trial in search.study.trials if trial.state is not TrialState.RUNNING}
    assert waiting | training | over == set(ends)
    for number in waiting:
        assert f"it waits at step {search.reached[number, 0]}, " in ends[number]


def test_it_says_what_failed(toy_packs: Path, tmp_path: Path) -> None:
    search = Search(toy_packs, tmp_path, changes(2), miou)
    search.study.set_user_attr("folder", str(tmp_path))
    ticket = search.ledger.next_ticket(1)
    assert ticket is not None
    search.ledger.failed(ticket, "Traceback ...\nNotFiniteError: at step 3")
    (story,) = stories(search)
    assert story.ended() == ["failed (seeds 0): NotFiniteError: at step 3"]
    with pytest.raises(ValueError, match="a trial must be one of search toy, 0 to 0, but got 5"):
        Story(search.config, search.problem, list(story.trials.values()), 5, True)


@pytest.mark.parametrize("share", [True, False])
def test_what_all_trials_added_is_what_was_trained(toy_packs: Path, tmp_path: Path, share: bool) -> None:
    file = changes(8, rest="pruner: none")
    file |= {"lr: [0.1]": "lr: [0.1, 0.2]", "real_fraction: [0.5, 1.0]": "real_fraction: [0.5]"}
    search = searched(toy_packs, tmp_path, file)
    told = stories(search, share)
    assert {one.trial.state for one in told} == {TrialState.COMPLETE}
    said = [re.match(r"([\d,]+) steps a seed alone; ([\d,]+) that", one.cost()[0]) for one in told]
    alone = sum(int(one[1]) for one in said if one)
    added = sum(int(one[2]) for one in said if one)
    paths = list(told[0].paths.values())
    assert alone == sum(leg.steps for path in paths for leg in path)
    assert added == (steps_shared(paths) if share else alone)
    assert steps_shared(paths) < alone


def test_it_names_the_trials_that_share_a_stage(toy_packs: Path, tmp_path: Path) -> None:
    file = changes(8, rest="pruner: none")
    file |= {"lr: [0.1]": "lr: [0.1, 0.2]", "real_fraction: [0.5, 1.0]": "real_fraction: [0.5]"}
    search = searched(toy_packs, tmp_path, file)
    fine = [t.number for t in search.study.trials if t.params["schedule"] == "finetune"]
    assert len(fine) == 2
    lines = stories(search)[fine[1]].shared(str(tmp_path / "no-store"))
    assert "4 steps of segmentation on 40 of 40 synthetic images at lr 0.05, seed 0" in lines[0]
    assert f"not in the store; shared with trial {fine[0]}; {fine[0]} was the first" in lines[1]
    assert "shared with no other trial" in lines[3]
    assert len(lines) == 4
