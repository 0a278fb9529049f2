"""Checkpoints: when the run that a worker trains is saved, and at what pace on the way."""

import time

from trainables.ranks import Ranks
from trainables.run import Run
from trainables.store import Store

CHECKPOINT_SHARE = 0.02  # of the time, that rolling checkpoints may take: those of a slow store are further apart


class Checkpoints:
    """Those of the live run. Rank 0 writes.

    every_s  seconds between rolling checkpoints, more where one takes long, 0 after each step; changes no number
    saved    how many were written
    save_s   what the last one took to write
    """

    def __init__(self, every_s: float, ranks: Ranks) -> None:
        self.saved = 0
        self.save_s: float | None = None
        self._every_s = self._pause_s = every_s
        self._ranks = ranks
        self._unsaved_s = 0.0  # training of the live run that no checkpoint holds, when it stood still last
        self._since = 0.0  # the same while it is trained: the time when there was none

    def begin(self, seconds: float) -> None:
        """Another run is the live one; what no checkpoint holds of it took so long."""
        self._unsaved_s = seconds

    def start(self) -> None:
        """The live run is trained on."""
        self._since = time.monotonic() - self._unsaved_s

    def keep_on_the_way(self, store: Store, run: Run) -> None:
        if self._ranks.first:
            self._save(store, run, keep=True)
        self._since = time.monotonic()

    def roll(self, store: Store, run: Run) -> None:
        """Writes a rolling checkpoint if one is due and the run is finite."""
        if self._ranks.first and time.monotonic() - self._since > self._pause_s:
            if run.is_finite():  # where it is not, every rank raises at its next check
                self._save(store, run, keep=False)
            self._since = time.monotonic()

    def keep(self, store: Store, run: Run) -> None:
        """Sees to it that the checkpoint of a run that stands still is in the store to stay."""
        if self._ranks.first and not store.kept(run.stage.key, run.step):
            self._save(store, run, keep=True)
        self._unsaved_s = 0.0

    def set_down(self, store: Store, run: Run) -> None:
        """Saves a run that is left, unless the steps since its last checkpoint cost less than another one would."""
        self._unsaved_s = time.monotonic() - self._since
        cheap = self._every_s and self.save_s is not None and self._unsaved_s < self.save_s
        if self._ranks.first and not cheap and run.step not in store.steps(run.stage.key):
            self._save(store, run, keep=False)

    def _save(self, store: Store, run: Run, *, keep: bool) -> None:
        began = time.monotonic()
        store.save(run.stage.key, run.step, run.state(), keep=keep)
        self.saved += 1
        self.save_s = time.monotonic() - began
        self._unsaved_s = 0.0
        if self._every_s:
            self._pause_s = max(self._every_s, self.save_s / CHECKPOINT_SHARE)
