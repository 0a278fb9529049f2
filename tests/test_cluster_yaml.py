"""`cluster.yaml` and `clusters/local.yaml` are files that `ray up` accepts, with the pinned environment on every node
and no open server (tests/test_kuberay.py: their twin on Kubernetes).

No cloud is touched: Ray's own preparation and schema are the truth for the format, and the commands are read.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
FILES = ["cluster.yaml", "clusters/local.yaml"]


def prepared(file: str) -> dict[str, Any]:
    """What `ray up` works with: the file, Ray's defaults and the commands of each kind of node merged."""
    return prepare_config(yaml.safe_load((ROOT / file).read_text()))


@pytest.fixture(scope="module", params=FILES)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return prepared(request.param)


@pytest.fixture(scope="module")
def commands(cluster: dict[str, Any]) -> list[str]:
    """Every shell command that any node runs."""
    keys = [key for key in cluster if key.endswith("_commands")]
    assert {"initialization_commands", "head_setup_commands", "worker_setup_commands"} <= set(keys)
    return [command for key in keys for command in cluster[key]]


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    validate_config(cluster)


def test_rays_schema_would_notice_a_misspelt_field(cluster: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"'setup_comands' was unexpected"):
        validate_config({**cluster, "setup_comands": []})


def test_gpu_workers_are_spot_and_scale_from_none() -> None:
    cluster = prepared("cluster.yaml")
    types = cluster["available_node_types"]
    head = types.pop(cluster["head_node_type"])
    assert head["max_workers"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert types
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["max_workers"] > 0
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_machines_of_ones_own_are_all_in_the_cluster_from_the_start() -> None:
    cluster = prepared("clusters/local.yaml")
    assert cluster["provider"]["type"] == "local"
    (node,) = cluster["available_node_types"].values()
    assert node["min_workers"] == node["max_workers"] == len(cluster["provider"]["worker_ips"]) > 0


def test_the_twins_differ_in_their_machines_and_storage_alone() -> None:
    """The same environment, ports, servers and token: whatever is mended in one file is mended in both."""
    aws, local = (prepared(file) for file in FILES)
    for key in ("file_mounts", "rsync_exclude", "head_start_ray_commands"):
        assert aws[key] == local[key], key
    *start, watcher = aws["worker_start_ray_commands"]
    assert start == local["worker_start_ray_commands"]
    assert "spot_notice.sh" in watcher
    for key in ("head_setup_commands", "worker_setup_commands"):
        one, other = ([re.sub(r"#.*|TITRATE_STORAGE=\S+", "", c) for c in config[key]] for config in (aws, local))
        assert [c.split() for c in one] == [c.split() for c in other], key


@pytest.mark.parametrize("kind", ["head_setup_commands", "worker_setup_commands"])
def test_every_node_installs_from_the_constraints_of_the_mounted_repository(cluster: dict[str, Any], kind: str) -> None:
    (mount,) = [remote for remote, local in cluster["file_mounts"].items() if local == "."]
    installs = [command for command in cluster[kind] if "pip install" in command or re.search(r"\bmake\b", command)]
    assert f"make --no-print-directory -C {mount} install PYTHON=python3.12" in installs
    for command in installs:
        assert "-c constraints.txt" in command or command.startswith("make "), command

    # And `make install` is an installation with the constraints. (The flags of a make that runs this test are dropped.)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    dry_run = ["make", "--always-make", "--dry-run", "install"]
    recipe = subprocess.run(dry_run, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    (pip,) = [line for line in recipe.splitlines() if "pip install" in line]
    assert " -c constraints.txt " in pip


def test_the_pinned_ray_is_the_one_that_validated_the_file() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert pins["ray"] == ray.__version__


def test_what_the_nodes_do_not_need_stays_behind(cluster: dict[str, Any]) -> None:
    assert {"/.git", "/.venv", "/packs", "/results"} <= set(cluster["rsync_exclude"])


def test_servers_listen_on_loopback(commands: list[str]) -> None:
    for command in commands:
        assert "0.0.0.0" not in command, command
        hosts = re.findall(r"--(?:dashboard-)?host[= ]+(\S+)", command)
        assert set(hosts) <= LOOPBACK, command
        # Both default to loopback today; said all the same, since a default may change.
        if re.search(r"/mlflow\"? server", command) or "ray start --head" in command:
            assert len(hosts) == 1, command
    assert any("mlflow" in command and "--host" in command for command in commands)


def test_nodes_authenticate_each_other_with_a_token_that_is_not_in_the_file(
    cluster: dict[str, Any], commands: list[str]
) -> None:
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any(re.search(r"export .*RAY_AUTH_MODE=token", command) for command in commands)
    assert not any("RAY_AUTH_TOKEN" in command for command in commands)


def test_commands_are_valid_shell(commands: list[str]) -> None:
    for command in commands:
        subprocess.run(["bash", "-n", "-c", f"({command})"], check=True, capture_output=True)  # as Ray wraps them


def test_the_shared_storage_is_named_once_and_used(commands: list[str], tmp_path: Path) -> None:
    (writes_env,) = {command for command in commands if "> ~/titrate.env" in command}
    show = f'({writes_env}) && . ~/titrate.env && echo "$TITRATE_STORAGE" && echo "$PATH"'
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    printed = subprocess.run(["bash", "-c", show], env=env, capture_output=True, text=True, check=True).stdout
    storage, path = printed.splitlines()
    assert storage.startswith(("s3://", "/"))
    assert path.startswith(f"{tmp_path}/titrate/.venv/bin:")
    (mlflow,) = {command for command in commands if "mlflow" in command and " server" in command}
    words = shlex.split(mlflow)
    assert words[words.index("--artifacts-destination") + 1] == "$TITRATE_STORAGE/mlflow"
