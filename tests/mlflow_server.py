"""A real MLflow server for tests, with a database of its own, that can go away and come back."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.s3 import free_port


class MlflowServer:
    """A server on loopback, whose database and artifacts are in `folder`. It runs between `start` and `end`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        kept = ["--backend-store-uri", f"sqlite:///{self._folder}/server.db"]
        kept += ["--artifacts-destination", f"{self._folder}/served"]
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--workers", "1", *kept], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2)
                return
            except OSError:
                assert self._process.poll() is None, (self._folder / "server.log").read_text()
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ends it with its workers, with SIGKILL what does not end in a minute."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, number)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:  # on a busy machine it takes its time
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
