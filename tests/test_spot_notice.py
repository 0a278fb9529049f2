"""clusters/spot_notice.sh: it is silent until the instance's metadata has a notice, and then drains the node once."""

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "clusters" / "spot_notice.sh"


class Metadata(BaseHTTPRequestHandler):
    """AWS's metadata service as its documentation has it (IMDSv2): 404 until there is a notice."""

    looks = 0
    NOTICE_AT = 3

    def do_PUT(self) -> None:
        assert self.path == "/latest/api/token"
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200, b"a-token")

    def do_GET(self) -> None:
        assert self.path == "/latest/meta-data/spot/instance-action"
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            return self._answer(401, b"")
        Metadata.looks += 1
        there = Metadata.looks >= Metadata.NOTICE_AT
        self._answer(
            200 if there else 404, b'{"action": "terminate", "time": "2030-01-01T00:00:00Z"}' if there else b""
        )

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def metadata() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/latest"
    server.shutdown()


def test_the_node_is_drained_once_when_the_notice_is_there(metadata: str, tmp_path: Path) -> None:
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    ray.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SPOT_METADATA": metadata, "SPOT_PAUSE_S": "0.05"}
    said = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=True).stdout
    assert Metadata.looks == Metadata.NOTICE_AT
    assert said.splitlines() == [
        "drain-node",
        "--reason=DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message=the spot instance is taken back",
        "--deadline-remaining-seconds=110",
    ]


def test_rays_command_knows_these_words() -> None:
    from ray.scripts.scripts import drain_node

    options = {option for parameter in drain_node.params for option in parameter.opts}
    assert {"--reason", "--reason-message", "--deadline-remaining-seconds"} <= options
    (reason,) = (parameter.type for parameter in drain_node.params if "--reason" in parameter.opts)
    assert "DRAIN_NODE_REASON_PREEMPTION" in reason.choices
