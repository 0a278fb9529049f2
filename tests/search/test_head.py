"""HeadWatch: a head that is gone, and one that comes back, is told in a line each, once."""

import socket
import time
from collections.abc import Callable

from search.head import HeadWatch


def listener(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def test_a_head_that_is_lost_and_back_is_told_once_each() -> None:
    head = listener()
    port = head.getsockname()[1]
    said: list[str] = []
    with HeadWatch(f"127.0.0.1:{port}", said.append, every_s=0.02):
        time.sleep(0.2)
        assert not said
        head.close()
        wait_for(lambda: bool(said))
        time.sleep(0.2)
        (lost,) = said
        assert f"127.0.0.1:{port} does not answer" in lost
        assert "the same command again" in lost
        with listener(port):
            wait_for(lambda: len(said) > 1)
    assert said[1:] == [f"the cluster's head at 127.0.0.1:{port} answers again"]


def test_the_end_of_a_search_is_no_loss() -> None:
    said: list[str] = []
    with listener() as head, HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", said.append, every_s=0.02):
        pass
    time.sleep(0.1)
    assert not said
