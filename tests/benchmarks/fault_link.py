"""Link: a network between a search and a server on loopback, which can be cut and be slow."""

import socket
import threading
import time
from contextlib import suppress

CHUNK = 1 << 16


class Link:
    """Passes on what is sent to `port` to another port of loopback, and what is answered.

    delay_s  how long everything that is sent lies here first
    """

    def __init__(self, to: int) -> None:
        self.delay_s = 0.0
        self._to = to
        self._cut = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Every connection is reset, and new ones are, until `mend`."""
        self._cut.set()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            if self._cut.is_set():
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            self._open |= {client, server}
            for source, target, slow in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=(source, target, slow), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if slow and self.delay_s:
                    time.sleep(self.delay_s)
                target.sendall(data)
        for one in (source, target):
            self._open.discard(one)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
