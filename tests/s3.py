"""A real S3 server for tests: moto's, in a process of its own, whose log tells what was asked of it."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class S3:
    """An S3 server on loopback with a bucket named `bucket`."""

    port: int
    log: Path

    def uri(self, path: str, user: str = "key:very%2Fsecret@") -> str:
        return f"s3://{user}{path}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def gets(self, path: str) -> int:
        """How many GET requests named an object whose path holds `path`."""
        return sum("GET /" in line and path in line for line in self.log.read_text(errors="replace").splitlines())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    port = free_port()
    served = S3(port, folder / "moto.log")
    with served.log.open("w") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(
                    urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT"), timeout=5
                )
                break
            except OSError:
                assert process.poll() is None, served.log.read_text()
                assert time.monotonic() < deadline, served.log.read_text()
                time.sleep(0.2)
        yield served
    finally:
        process.terminate()
        process.wait(30)
