"""Slots: Ray Train runs that live as long as the search. Their workers stay warm: take a job, train it, report."""

from dataclasses import dataclass
from typing import Any

from ray.exceptions import ActorDiedError

from search.config import trains
from search.desk import Desk
from search.job import Job, Measured
from search.notice import NodeLeavingError, Notice
from search.problem import read_columns
from trainables.specs import TaskSpec


@dataclass(frozen=True)
class SlotJob:
    """What every slot of a search is given: the task, the data and where the store is."""

    task: TaskSpec
    packs: dict[str, tuple[tuple[str, str], ...]]  # Opened.packs: (place, digest) of each set's
    backgrounds: dict[str, tuple[tuple[str, str], ...]]  # Opened.backgrounds
    store: str
    owner: str  # of its leases: all slots of a search are one
    threads: int
    loaders: int
    cache_bytes: int  # of batches, in each worker


def slot_loop(config: dict[str, Any]) -> None:
    """The training function of a slot's workers: everything that is slow to make is made once, before the loop."""
    from trainables.ranks import Ranks

    notice = Notice()
    desk = Desk(config["dispatcher"], config["slot"], Ranks(), lambda: notice.given)
    try:
        _work(desk, config["job"])
    except ActorDiedError:
        return  # the search ended while this slot was away
    finally:
        desk.leave()
        notice.leave()


def _work(desk: Desk, what: SlotJob) -> None:
    from trainables.numerics import division, numerics

    size = desk.ranks.world_size
    try:
        trainer = desk.trainer = make_trainer(what, size)
        desk.ready(division(trainer.device, world_size=size), numerics(trainer.device, world_size=size))
    except Exception as error:
        if desk.failed_to_start(error):
            raise
        return  # Train would start it again and again, and say nothing
    while True:
        job = desk.take()
        if job == "close":
            return
        if job == "leave":
            raise NodeLeavingError("the node of this slot is about to be taken away; it goes on on another one")
        if not isinstance(job, Job):
            continue
        try:
            for report in trainer.train(
                job.path, job.rungs, namespace=job.namespace, control=desk.control(job), milestone=desk.milestone(job)
            ):
                desk.report(job, Measured(**vars(report)))
        except Exception as error:
            match desk.ended_by(job, error):
                case "end":
                    return
                case "restart":
                    raise


def make_trainer(what: SlotJob, world_size: int) -> Any:
    """A `trainables.loop.Trainer` over the packs of a search, on this worker's device."""
    import torch
    from ray.train.torch import get_device

    from datasets import Pack, Source
    from datasets.compositing import Compositor, Scenes
    from trainables.loop import Trainer
    from trainables.numerics import division, set_deterministic
    from trainables.store import Store
    from trainables.task import build_task

    set_deterministic(what.threads)
    device: torch.device = get_device() if torch.cuda.is_available() else torch.device("cpu")
    part = division(device, world_size=world_size)
    packs = {pack: Pack.open(*pack) for group in what.packs.values() for pack in group}
    scenes = None
    if what.backgrounds:
        behind = {use: [Pack.open(*pack) for pack in group] for use, group in what.backgrounds.items()}
        scenes = Scenes(Compositor.over(behind["train"]), Compositor.over(behind["evaluation"]))
    task = build_task(what.task, scenes)
    sources = {
        name: Source([packs[pack] for pack in group], read_columns(name, task)) for name, group in what.packs.items()
    }
    return Trainer(
        what.task,
        [source for name, source in sources.items() if trains(name)],
        val=sources["val"],
        tests={name.removeprefix("test/"): source for name, source in sources.items() if name.startswith("test/")},
        store_of=lambda namespace: Store(what.store, f"{part}/{namespace}" if namespace else part),
        device=device,
        scenes=scenes,
        num_workers=what.loaders,
        cache_bytes=what.cache_bytes,
        owner=what.owner,
    )
