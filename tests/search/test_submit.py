"""`search submit`: what a job takes along, what is explained before it starts, and one search on a real Ray head."""

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import requests
import torch
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus
from typer.testing import CliRunner

from search import submit as submit_module
from search.__main__ import app
from search.cluster import EXCLUDES, ROOT
from search.config import load
from search.parcel import CODE, pack_up
from search.submit import _asked, _follow, _next
from tests.nodes import START_S
from tests.toy import ONE_SLOT, toy_search

STORED = {"name: toy": "name: toy\nstore: s3://bucket/store?region=us-west-2"}


def packed(path: Path, folder: Path, *shared: str, results: str | None = None) -> Path:
    """Packs a search file up and returns the one in the parcel."""
    parcel = pack_up(path, load(path), shared, folder / "job", results=results)
    return parcel.folder / parcel.file


def explained(path: Path, folder: Path, *shared: str, results: str | None = None) -> str:
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        packed(path, folder, *shared, results=results)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_whose_places_every_node_reaches_goes_along_as_it_is(tmp_path: Path) -> None:
    path = toy_search("s3://bucket/packs", tmp_path, STORED | {"task:": "# why this task\ntask:"})
    assert packed(path, tmp_path).read_text() == path.read_text()


def test_packs_of_this_machine_alone_are_explained(toy_packs: Path, tmp_path: Path) -> None:
    line = explained(toy_search(toy_packs, tmp_path, STORED), tmp_path, "s3://bucket")
    assert f"data.test.same: packs are not uploaded, and {toy_packs}/test is on no shared folder;" in line
    assert f"python -m datasets copy {toy_packs}/test s3://..." in line
    assert "(/mnt/other)" in explained(toy_search(toy_packs, tmp_path, STORED), tmp_path / "2", "/mnt/other")
    local = toy_search(f"file://{toy_packs}", tmp_path, STORED)
    assert f"{toy_packs}/test is on no shared folder" in explained(local, tmp_path / "3")


def test_paths_under_a_shared_folder_become_absolute(toy_packs: Path, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    relative = os.path.relpath(toy_packs, tmp_path / "project")
    comment = {"tracking:": "# kept, as is: äöü\ntracking:", "name: toy": "name: toy\nstore: ../store"}
    path = toy_search(relative, tmp_path / "project", comment)
    shared = os.path.commonpath([toy_packs, tmp_path])
    there = packed(path, tmp_path, shared)
    raw = yaml.safe_load(there.read_text())
    assert raw["data"]["val"] == f"{toy_packs}/val"
    assert raw["data"]["real"] == {"toy": f"{toy_packs}/real"}
    assert raw["store"] == str(tmp_path / "store")
    assert "# kept, as is: äöü" in there.read_text()
    here, moved = load(path), load(there)
    assert moved == here  # the same search, wherever it is read


def test_a_list_of_packs_and_an_anchor(toy_packs: Path, tmp_path: Path) -> None:
    lists = {f"val: {toy_packs}/val": f"val: &held [{toy_packs}/val, {toy_packs}/test]", "test: {same:": "#"}
    path = toy_search(toy_packs, tmp_path, STORED | lists)
    assert load(packed(path, tmp_path, str(toy_packs))) == load(path)
    line = explained(path, tmp_path / "2", str(toy_packs / "real"), str(toy_packs / "synthetic"))
    assert "data.val: packs are not uploaded" in line


def test_weights_go_along(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "drn.pth")
    pretrained = {"width: 0.0625,": "width: 0.0625, pretrained: drn.pth,"}
    path = toy_search("s3://bucket/packs", tmp_path, STORED | pretrained)
    there = packed(path, tmp_path)
    weights = load(there).task.pretrained
    assert weights is not None
    assert weights.digest == load(path).task.pretrained.digest  # type: ignore[union-attr]
    assert Path(weights.path).read_bytes() == (tmp_path / "drn.pth").read_bytes()
    assert yaml.safe_load(there.read_text())["task"]["pretrained"] == "0-drn.pth"


def test_a_store_that_only_the_head_reaches_is_explained(tmp_path: Path) -> None:
    path = toy_search("s3://bucket/packs", tmp_path)
    assert "store: must be given for a cluster" in explained(path, tmp_path)
    assert "store: must be given for a cluster" in explained(path, tmp_path / "2", "/shared", results="/home/me/r")
    packed(path, tmp_path / "3", "/shared", results="/shared/results")
    local = toy_search("s3://bucket/packs", tmp_path, {"name: toy": "name: toy\nstore: /data/store"})
    assert "store: must be a URI, or a folder that every node mounts, but /data/store" in explained(
        local, tmp_path / "4"
    )


@pytest.mark.parametrize("uri", ["sqlite:///mine.db", "sqlite:////home/me/mine.db", "mlruns", "file:///home/me/mlruns"])
def test_a_tracking_database_of_this_machine_is_explained(tmp_path: Path, uri: str) -> None:
    path = toy_search("s3://bucket/packs", tmp_path, STORED | {"tracking: {": f"tracking: {{uri: '{uri}', "})
    assert "tracking.uri: must be a server that the cluster's head reaches" in explained(path, tmp_path)


def test_what_is_uploaded_is_code_and_the_search(toy_packs: Path, tmp_path: Path) -> None:
    path = toy_search("s3://bucket/packs", tmp_path, STORED)
    packed(path, tmp_path)
    create_package(str(tmp_path / "job"), tmp_path / "job.zip", include_gitignore=True, excludes=list(EXCLUDES))
    names = set(zipfile.ZipFile(tmp_path / "job.zip").namelist())
    assert {"search/__main__.py", "search/examples/demo.yaml", "trainables/loop.py", "submitted/toy.yaml"} <= names
    assert {name.split("/")[0] for name in names} == {*CODE, "submitted", ".gitignore"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".arrow"))]


def test_all_code_goes_along() -> None:
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    assert sorted(checked) == sorted(CODE)


def test_jobs_are_numbered() -> None:
    def jobs(*names: str) -> list[Any]:
        return [SimpleNamespace(submission_id=name) for name in names]

    assert _next("toy", jobs()) == "toy-1"
    assert _next("toy", jobs("toy-1", "toy-10", "toy-big-11", "a-toy-12", "toy-x")) == "toy-11"


class Flaky:
    """A job server whose connection is lost twice: in the middle of the log, and when asked how the job is."""

    def __init__(self, lost: Exception) -> None:
        self.calls = 0
        self.lost = lost

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        self.calls += 1
        yield "one\ntw"
        if self.calls == 1:
            raise self.lost
        yield "o\nthree\n"

    def get_job_info(self, job: str) -> Any:
        if self.calls == 1:
            raise ConnectionError("http://user:secret@head:8265 is not reached")
        return SimpleNamespace(status=JobStatus.SUCCEEDED, message="done")


@pytest.mark.parametrize("lost", [RuntimeError("closed with code 1006"), aiohttp.ServerDisconnectedError()])
def test_the_log_is_shown_once_through_a_lost_connection(monkeypatch: pytest.MonkeyPatch, lost: Exception) -> None:
    monkeypatch.setattr(submit_module, "RETRY_S", 0.0)
    log: list[str] = []
    said: list[str] = []
    assert asyncio.run(_follow(Flaky(lost), "toy-1", log.append, said.append)) == ("SUCCEEDED", "done")
    assert "".join(log) == "one\ntwo\nthree\n"
    assert len(said) == 1
    assert "the job goes on there" in said[0]


def test_a_cluster_that_asks_for_a_token_is_one_line() -> None:
    def refused() -> None:
        raise AuthenticationError("Authentication required: Unauthorized: Missing authentication token\n\nmore")

    with pytest.raises(ValueError, match="Missing authentication token; set RAY_AUTH_MODE=token") as caught:
        _asked(refused)
    assert "\n" not in str(caught.value)


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere")  # --address goes before it
    address = f"http://me:secret@127.0.0.1:{free_ports(1)[0]}"
    path = toy_search("s3://bucket/packs", tmp_path, STORED)
    result = CliRunner().invoke(app, ["submit", str(path), "--address", address])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert f"must be reachable at '{address.replace('me:secret', '***')}'" in result.stderr
    assert "secret" not in result.output


@dataclass(frozen=True)
class Head:
    """A Ray head with its dashboard, in processes and folders of its own, that asks for a token."""

    address: str
    env: dict[str, str]
    token: str

    def search(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "search", *arguments]
        pipe: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=self.env, preexec_fn=hear_interrupts, **pipe)


def hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs, and what they start, ignore it


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets have their paths in it
    binaries = Path(sys.executable).parent
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_", "PYTHONPATH"))}
    env = mine | {
        "HOME": str(folder),
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TITRATE_RESULTS": str(folder / "results"),
        "OMP_NUM_THREADS": "1",
    }
    env.pop("MLFLOW_TRACKING_URI", None)
    ray = [str(binaries / "ray")]
    subprocess.run([*ray, "get-auth-token", "--generate"], env=env, check=True, capture_output=True)
    port, dashboard, client, agent = free_ports(4)
    start = ["start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}", "--num-cpus=2"]
    start += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    start += [f"--dashboard-agent-listen-port={agent}"]
    with (folder / "head.log").open("w") as log:
        out: Any = {"stdout": log, "stderr": log, "start_new_session": True}
        process = subprocess.Popen([*ray, *start], cwd=folder, env=env, preexec_fn=hear_interrupts, **out)
    try:
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in (said := (folder / "head.log").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        yield Head(f"http://127.0.0.1:{dashboard}", env, (folder / ".ray" / "auth_token").read_text().strip())
    finally:
        process.send_signal(signal.SIGINT)  # a SIGTERM would drain the node first
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_job_outlives_who_follows_it_and_is_stopped_in_order_and_goes_on(
    head: Head, toy_packs: Path, tmp_path: Path
) -> None:
    replace = ONE_SLOT | {
        "name: toy": f"name: toy\nstore: {tmp_path}/store",
        "schedule: [real_only, synthetic_only, finetune]": "schedule: [real_only, synthetic_only]",
        "real_fraction: [0.5, 1.0]": "real_fraction: [1.0]",
        "pretrain: {steps: [4], lr: [0.05]}": "",
        "budget: {steps: 6, rungs: [3, 6], seeds: 2}": "budget: {steps: 1000, seeds: 1}",
    }
    path = str(toy_search(toy_packs, tmp_path, replace))
    shared = ["--shared", os.path.commonpath([toy_packs, tmp_path]), "--address", head.address]

    assert requests.get(f"{head.address}/api/jobs/", timeout=60).status_code == 401  # without the token

    first, _ = (submitted := head.search("submit", path, *shared, "--no-wait")).communicate(timeout=60)
    assert submitted.returncode == 0, first
    assert "search toy is submitted as job toy-1" in first
    assert f"{head.address}/#/jobs/toy-1" in first

    follower = head.search("submit", path, *shared)
    assert follower.stdout is not None
    heard = ""
    while "recipes done" not in heard:  # a line of the job's own
        line = follower.stdout.readline()
        assert line, heard
        heard += line
    follower.send_signal(signal.SIGINT)
    rest, _ = follower.communicate(timeout=60)
    assert follower.returncode == 130, rest
    assert "search toy runs already, as job toy-1, since " in heard
    assert "job toy-1 goes on; the same command follows it again" in rest

    stop = rest.rpartition("this stops it: ")[2].strip()
    stopped = subprocess.run(
        shlex.split(stop), env=head.env, capture_output=True, text=True, timeout=120, check=True
    ).stdout
    last, _ = (again := head.search("submit", path, *shared)).communicate(timeout=180)
    assert again.returncode == 0, last
    assert "search toy is submitted as job toy-2" in last
    assert "search toy: 2 of 2 recipes done" in last
    bearer = {"Authorization": f"Bearer {head.token}"}
    logs = requests.get(f"{head.address}/api/jobs/toy-1/logs", headers=bearer, timeout=60).json()["logs"]
    assert "interrupted: run the same command again to go on from here" in logs  # in order, not killed
    assert not [text for text in (first, heard, rest, stopped, last, logs) if head.token in text]
