"""Virtual time: an event loop whose clock jumps to the next timer, so that minutes of silence pass at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """RuntimeError when nothing is left that could happen, where a real loop would hang."""

    def __init__(self) -> None:
        super().__init__()
        self._time = 0.0

    def time(self) -> float:
        return self._time

    def _run_once(self) -> None:
        if not self._ready:
            if not self._scheduled:
                raise RuntimeError("everybody waits and nothing is left to happen")
            self._time = max(self._time, self._scheduled[0].when())
        super()._run_once()


def play(scene: Coroutine[Any, Any, Any], seconds: float = 3600.0) -> Any:
    """Runs a scene in virtual time; TimeoutError if it takes longer than so many virtual seconds."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(asyncio.wait_for(scene, seconds))
