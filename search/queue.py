"""Queue: the jobs that wait for a slot, by the stage that each needs next, and the choice among them.

One slot trains a stage at a time. A stage's key holds what it starts from, so paths are a tree: all jobs that a stage
stands before are in its group, and the size of the group is how many wait for it. What is in the store is a belief,
learnt from milestones and mended by what slots find; a wrong one costs a look, never a job.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from search.job import Job

PASSES = 20  # how often the stage that could be trained for the longest time is passed over


@dataclass(frozen=True)
class Need:
    """What a job needs next.

    stage  to be trained, to `step`; None: nothing, for its next rung is in the store
    left   steps from the beginning of that stage to the job's next rung
    """

    stage: str | None
    step: int
    left: int


@dataclass(frozen=True)
class _Waiting:
    job: Job
    reached: int
    order: int
    need: Need


@dataclass
class _Group:
    """Queued jobs that need the same stage next: job -> (steps left, order of arrival)."""

    jobs: dict[str, tuple[int, int]] = field(default_factory=dict)
    _best: str | None = None

    def add(self, job: str, rank: tuple[int, int]) -> None:
        self.jobs[job] = rank
        if self._best is None or rank < self.jobs[self._best]:
            self._best = job

    def remove(self, job: str) -> None:
        del self.jobs[job]
        if job == self._best:
            self._best = min(self.jobs, key=self.jobs.__getitem__, default=None)

    @property
    def best(self) -> str:
        """The job that is nearest to its next rung; of equals the first that came."""
        assert self._best is not None
        return self._best

    def first(self) -> str:
        return min(self.jobs, key=lambda job: self.jobs[job][1])


class Queue:
    """See the module. A stage's name is the job's namespace and the stage's key.

    stored    name -> the furthest step known to be in the store
    training  name -> the slot that trains it
    """

    def __init__(self) -> None:
        self.stored: dict[str, int] = {}
        self.training: dict[str, int] = {}
        self._elsewhere: set[str] = set()  # trained by another search
        self._waiting: dict[str, _Waiting] = {}
        self._ready: dict[str, None] = {}  # jobs that need no training for their next rung
        self._urgent: dict[str, None] = {}  # jobs that another slot has lost
        self._groups: dict[str, _Group] = {}
        self._free: dict[str, None] = {}  # stages with a group that nobody trains, since longest first
        self._eldest: str | None = None
        self._passed = 0

    def __len__(self) -> int:
        return len(self._waiting)

    # -- jobs --------------------------------------------------------------------------------------------------

    def add(self, job: Job, reached: int, order: int, *, urgent: bool = False) -> None:
        """Queues a job that has reached a rung (0: none). `order` is that of its arrival; urgent ones go first."""
        if urgent:
            self._urgent[job.id] = None
        self._place(_Waiting(job, reached, order, self.need(job, reached)))

    def remove(self, job: str) -> None:
        waiting = self._waiting.pop(job, None)
        if waiting is None:
            return
        self._urgent.pop(job, None)
        self._ready.pop(job, None)
        if waiting.need.stage is not None:
            self._groups[waiting.need.stage].remove(job)
            self._refresh(waiting.need.stage)

    def need(self, job: Job, reached: int) -> Need:
        """What a job needs next: the last of its stages of which the store has something goes on."""
        path, k = job.path, len(job.path) - 1
        rung = next((rung for rung in job.rungs if rung > reached), job.rungs[-1])
        if self.stored.get(job.namespace + path[k].stage.key, 0) >= rung:
            return Need(None, rung, 0)
        while k > 0 and job.namespace + path[k].stage.key not in self.stored:
            before = path[k - 1]
            if self.stored.get(job.namespace + before.stage.key, 0) >= before.steps:
                break
            k -= 1
        steps = [leg.steps for leg in path[k:-1]] + [rung]
        return Need(job.namespace + path[k].stage.key, steps[0], sum(steps))

    def any(self) -> bool:
        """Whether there is work that nobody does."""
        return bool(self._ready or self._free)

    def is_free(self, stage: str | None) -> bool:
        """Whether queued jobs need this stage next, and nobody trains it."""
        return stage in self._free

    def choose(self, live: str | None) -> Job | None:
        """Takes the job from the queue that a slot with the weights of stage `live` should do now.

        Jobs that need no training go first, then those that another slot has lost; then what the slot can go on with
        at once, the stage that most jobs wait for, the one nearest to a rung, the one that came first. The stage that
        could be trained for the longest time is passed over `PASSES` times at most.
        """
        chosen = self._pick(live)
        if chosen is None:
            return None
        job = self._waiting[chosen].job
        self.remove(chosen)
        return job

    def _pick(self, live: str | None) -> str | None:
        for job in self._ready:
            return job
        for job in self._urgent:
            if self._waiting[job].need.stage in self._free:
                return job
        if not self._free:
            return None
        eldest = next(iter(self._free))
        if eldest != self._eldest:
            self._eldest, self._passed = eldest, 0
        if self._passed >= PASSES:
            return self._groups[eldest].first()
        stage = live if live is not None and live in self._free else max(self._free, key=self._rank)
        self._passed += stage != eldest
        return self._groups[stage].best

    def _rank(self, stage: str) -> tuple[int, int, int]:
        group = self._groups[stage]
        left, order = group.jobs[group.best]
        return len(group.jobs), self.stored.get(stage, 0) - left, -order

    # -- stages ------------------------------------------------------------------------------------------------

    def hold(self, stage: str, slot: int) -> bool:
        """Gives a stage to a slot; False if another one has it."""
        if self.training.setdefault(stage, slot) != slot:
            return False
        self._refresh(stage)
        return True

    def release(self, stage: str) -> None:
        self.training.pop(stage, None)
        self._refresh(stage)

    def elsewhere(self, stage: str, is_trained: bool) -> None:
        """Another search trains a stage, or may have ended: somebody looks again."""
        (self._elsewhere.add if is_trained else self._elsewhere.discard)(stage)
        self._refresh(stage)

    def store(self, stage: str, step: int) -> None:
        """(stage, step) is in the store: jobs that wait for it need what comes next."""
        if step > self.stored.get(stage, 0):
            self.stored[stage] = step
            if stage in self._groups:
                self._replace(job for job in [*self._groups[stage].jobs] if self._waiting[job].need.step <= step)

    def mend(self, stage: str, step: int) -> None:
        """A slot trains a stage from `step` (0: an earlier one), so that the store cannot have more of it."""
        if self.stored.get(stage, 0) > step:
            if step:
                self.stored[stage] = step
            else:
                del self.stored[stage]
            self._replace([*self._waiting])

    # -- what is shown -----------------------------------------------------------------------------------------

    def waiting(self) -> dict[str, str]:
        """Queued jobs that must wait, and the stage that each waits for."""
        return {job: stage for stage, group in self._groups.items() if stage not in self._free for job in group.jobs}

    def wanted(self) -> dict[str, int]:
        """The stages that queued jobs need next, and the furthest step that one of them needs."""
        return {stage: max(self._waiting[job].need.step for job in group.jobs) for stage, group in self._groups.items()}

    # -- inside ------------------------------------------------------------------------------------------------

    def _place(self, waiting: _Waiting) -> None:
        job, need = waiting.job.id, waiting.need
        self._waiting[job] = waiting
        if need.stage is None:
            self._ready[job] = None
        else:
            self._groups.setdefault(need.stage, _Group()).add(job, (need.left, waiting.order))
            self._refresh(need.stage)

    def _replace(self, jobs: Iterable[str]) -> None:
        """Puts jobs where they belong after what is stored has changed."""
        for job in jobs:
            waiting, urgent = self._waiting[job], job in self._urgent
            self.remove(job)
            self.add(waiting.job, waiting.reached, waiting.order, urgent=urgent)

    def _refresh(self, stage: str) -> None:
        group = self._groups.get(stage)
        if group is not None and not group.jobs:
            del self._groups[stage]
            group = None
        if group is not None and stage not in self.training and stage not in self._elsewhere:
            self._free.setdefault(stage)
        else:
            self._free.pop(stage, None)
