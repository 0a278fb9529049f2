"""HeadWatch: says, in one line, that the head of the Ray cluster no longer answers.

Nothing of a search can go on without it. Ray itself retries for a minute, with errors of its own, and then ends the
process; a head that comes back in that time is found again.
"""

import socket
import threading
from collections.abc import Callable

ASK_EVERY_S = 5.0
MISSES = 2  # in a row, before it is said
TIMEOUT_S = 3.0


class HeadWatch:
    """Connects to the head every few seconds, in a thread of its own, while the context is open.

    address  HOST:PORT of Ray's global control store
    say      hears a line when it is lost, and one when it is back
    """

    def __init__(self, address: str, say: Callable[[str], object], *, every_s: float = ASK_EVERY_S) -> None:
        self._address = address
        self._say = say
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="head", daemon=True)

    def __enter__(self) -> "HeadWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        misses = 0
        while not self._ended.wait(self._every_s):
            if self._answers():
                if misses >= MISSES:
                    self._say(f"the cluster's head at {self._address} answers again")
                misses = 0
                continue
            misses += 1
            if misses == MISSES and not self._ended.is_set():
                self._say(
                    f"the cluster's head at {self._address} does not answer: unless it is back in a minute, Ray ends"
                    " this command. Run the same command again then, on a new cluster if this one is gone: what is in"
                    " the store is not trained twice"
                )

    def _answers(self) -> bool:
        host, port = self._address.rsplit(":", 1)
        try:
            with socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S):
                return True
        except OSError:
            return False
