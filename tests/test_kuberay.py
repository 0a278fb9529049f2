"""The Kubernetes manifests in `clusters/` have the fields of KubeRay's types, and are twins of `cluster.yaml`.

No Kubernetes is touched. The fields are those that `ray-operator/apis/ray/v1/*_types.go` of KubeRay 1.6 lets people
write, of pods those that the manifests use; an unknown one is an error.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from ray._private.runtime_env.packaging import get_local_dir_uri_path
from ray._private.runtime_env.validation import parse_and_validate_env_vars

from tests.test_cluster_yaml import LOOPBACK, ROOT, prepared

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
WORDS: Schema = {"type": "object", "additionalProperties": TEXT}


def fields(required: str = "", **known: Schema) -> Schema:
    return {"type": "object", "properties": known, "required": required.split(), "additionalProperties": False}


def many(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


ENV = many(fields("name value", name=TEXT, value=TEXT))
MOUNTS = many(fields("name mountPath", name=TEXT, mountPath=TEXT, readOnly=FLAG))
CONTAINER = fields(
    "name image resources",
    name=TEXT,
    image=TEXT,
    command=many(TEXT),
    args=many(TEXT),
    env=ENV,
    ports=many(fields("containerPort", name={"type": "string", "maxLength": 15}, containerPort=COUNT)),
    resources=fields("requests limits", requests=WORDS, limits=WORDS),
    volumeMounts=MOUNTS,
    lifecycle=fields("preStop", preStop=fields("exec", exec=fields("command", command=many(TEXT)))),
)
POD = fields(
    "containers",
    containers=many(CONTAINER),
    volumes=many(fields("name", name=TEXT, persistentVolumeClaim=fields("claimName", claimName=TEXT))),
    nodeSelector=WORDS,
    tolerations=many(fields("key", key=TEXT, operator=one_of("Exists", "Equal"), value=TEXT, effect=TEXT)),
    terminationGracePeriodSeconds=COUNT,
    securityContext=fields(runAsUser=COUNT, runAsGroup=COUNT, runAsNonRoot=FLAG, fsGroup=COUNT),
)
TEMPLATE = fields("spec", metadata=fields(labels=WORDS, annotations=WORDS), spec=POD)
HEAD = fields(
    "rayStartParams template",
    rayStartParams=WORDS,
    template=TEMPLATE,
    serviceType=TEXT,
    enableIngress=FLAG,
    resources=WORDS,
    labels=WORDS,
)
WORKERS = fields(
    "groupName minReplicas maxReplicas rayStartParams template",
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    numOfHosts=COUNT,
    rayStartParams=WORDS,
    template=TEMPLATE,
    resources=WORDS,
    labels=WORDS,
)
CLUSTER = fields(
    "headGroupSpec",
    headGroupSpec=HEAD,
    workerGroupSpecs=many(WORKERS),
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    authOptions=fields("mode", mode=one_of("token", "disabled"), secretName=TEXT),
    autoscalerOptions=fields(
        version=one_of("v1", "v2"),
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        idleTimeoutSeconds=COUNT,
        resources=fields(requests=WORDS, limits=WORDS),
        env=ENV,
    ),
)
JOB = fields(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    rayClusterSpec=CLUSTER,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    metadata=WORDS,
)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}


def documents(name: str) -> dict[str, list[dict[str, Any]]]:
    """The documents of a manifest by their kind."""
    found: dict[str, list[dict[str, Any]]] = {}
    for document in yaml.safe_load_all((ROOT / "clusters" / name).read_text()):
        found.setdefault(document["kind"], []).append(document)
    return found


@pytest.fixture
def cluster() -> dict[str, Any]:
    (document,) = documents("kuberay.yaml")["RayCluster"]
    spec: dict[str, Any] = document["spec"]
    return spec


@pytest.fixture
def job() -> dict[str, Any]:
    (document,) = documents("kuberay-job.yaml")["RayJob"]
    spec: dict[str, Any] = document["spec"]
    return spec


@pytest.mark.parametrize("name", ["kuberay.yaml", "kuberay-job.yaml"])
def test_the_manifests_have_the_fields_of_kuberays_types(name: str) -> None:
    for kind, found in documents(name).items():
        for document in found:
            assert {"apiVersion", "kind", "metadata", "spec"} == set(document)
            if kind in SPECS:
                assert document["apiVersion"] == "ray.io/v1"
                Draft202012Validator(SPECS[kind]).validate(document["spec"])


def test_the_schema_would_notice_a_misspelt_field(cluster: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"'enableAutoscaling' was unexpected"):
        Draft202012Validator(CLUSTER).validate({**cluster, "enableAutoscaling": True})
    cluster["workerGroupSpecs"][0]["rayStartParams"]["num-cpus"] = 0  # these are strings
    with pytest.raises(ValidationError, match="is not of type 'string'"):
        Draft202012Validator(CLUSTER).validate(cluster)


def test_a_job_has_the_same_cluster_but_for_the_operators_way_in(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    start = job["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
    assert start.pop("dashboard-host") == "0.0.0.0"
    assert cluster["headGroupSpec"]["rayStartParams"].pop("dashboard-host") in LOOPBACK
    assert job["rayClusterSpec"] == cluster
    assert job["shutdownAfterJobFinishes"]


def test_gpu_workers_scale_from_none(cluster: dict[str, Any]) -> None:
    assert cluster["enableInTreeAutoscaling"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == 0 < workers["maxReplicas"]
    (container,) = workers["template"]["spec"]["containers"]
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) > 0
    assert not any("nvidia" in key for c in containers(cluster, "head") for key in c["resources"]["limits"])


def containers(cluster: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    group = cluster["headGroupSpec"] if kind == "head" else cluster["workerGroupSpecs"][0]
    found: list[dict[str, Any]] = group["template"]["spec"]["containers"]
    return found


def test_a_pod_that_goes_gives_its_slots_notice_and_time(cluster: dict[str, Any], tmp_path: Path) -> None:
    """The words are those of `spot_notice.sh`, of which tests/test_spot_notice.py asks Ray's own command."""
    (container,) = containers(cluster, "workers")
    shell, option, script = container["lifecycle"]["preStop"]["exec"]["command"]
    for name, body in (("ray", 'for word; do echo "$word"; done'), ("sleep", 'echo "sleep $1"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    script = script.replace("/opt/titrate/.venv/bin/", "")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run([shell, option, script], env=env, capture_output=True, text=True, check=True).stdout
    *words, pause = said.splitlines()
    assert words[:2] == ["drain-node", "--reason=DRAIN_NODE_REASON_PREEMPTION"]
    assert {word.partition("=")[0] for word in words[2:]} == {"--reason-message", "--deadline-remaining-seconds"}
    grace = cluster["workerGroupSpecs"][0]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert 10 <= int(pause.removeprefix("sleep ")) < grace


def test_every_node_reaches_the_storage_and_the_head_alone_its_databases(cluster: dict[str, Any]) -> None:
    claims = {one["metadata"]["name"]: one["spec"] for one in documents("kuberay.yaml")["PersistentVolumeClaim"]}
    shared = {name for name, spec in claims.items() if spec["accessModes"] == ["ReadWriteMany"]}
    for kind, names in (("head", set(claims)), ("workers", shared)):
        group = cluster["headGroupSpec"] if kind == "head" else cluster["workerGroupSpecs"][0]
        volumes = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in group["template"]["spec"]["volumes"]}
        assert set(volumes.values()) == names
        for container in containers(cluster, kind):
            paths = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
            env = {one["name"]: one["value"] for one in container["env"]}
            assert paths[env["TITRATE_STORAGE"]] in shared
            if kind == "head":
                assert paths[str(Path(env["TITRATE_RESULTS"]).parent)] not in shared


def test_mlflow_is_the_same_server_as_on_the_twins(cluster: dict[str, Any]) -> None:
    (server,) = [c for c in containers(cluster, "head") if c["name"] == "mlflow"]
    (twin,) = [c for c in prepared("cluster.yaml")["head_setup_commands"] if " server" in c]
    (here,) = server["args"]
    for option in ("--host", "--port", "--artifacts-destination"):
        values = [re.findall(rf"{option} (\S+)", command) for command in (here, twin)]
        assert values[0] == values[1] != [], option
    assert re.findall(r"--host (\S+)", here)[0] in LOOPBACK


def test_ports_and_token_are_those_of_the_twins(cluster: dict[str, Any]) -> None:
    (start,) = [c for c in prepared("cluster.yaml")["head_start_ray_commands"] if "ray start" in c]
    params = cluster["headGroupSpec"]["rayStartParams"]
    for name in ("port", "object-manager-port", "dashboard-host"):
        assert re.findall(rf"--{name}=(\S+)", start) == [params[name]], name
    assert cluster["workerGroupSpecs"][0]["rayStartParams"]["object-manager-port"] == params["object-manager-port"]
    assert cluster["authOptions"] == {"mode": "token"}
    everyone = containers(cluster, "head") + containers(cluster, "workers")
    assert not any("TOKEN" in variable["name"] for container in everyone for variable in container["env"])


def test_ports_are_open_between_the_clusters_own_pods_alone(cluster: dict[str, Any]) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in documents("kuberay.yaml")["NetworkPolicy"]}
    for kind in ("headGroupSpec", "workerGroupSpecs"):
        group = cluster[kind] if kind == "headGroupSpec" else cluster[kind][0]
        assert group["template"]["metadata"]["labels"] == policies["titrate"]["podSelector"]["matchLabels"]
    assert policies["titrate"]["ingress"] == [{"from": [{"podSelector": policies["titrate"]["podSelector"]}]}]
    (rule,) = policies["titrate-operator"]["ingress"]
    assert rule["ports"] == [{"port": 8265}]
    (source,) = rule["from"]
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


def test_the_image_has_the_pinned_environment(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    dockerfile = (ROOT / "clusters" / "Dockerfile").read_text()
    for command in prepared("cluster.yaml")["worker_setup_commands"]:
        if "install" in command:  # the same two commands, where the twins have the repository in ~/titrate
            part = re.sub(r"^cd ~/titrate && | -C ~/titrate", "", command)
            assert part in dockerfile, part
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert cluster["rayVersion"] == pins["ray"]
    assert "FROM python:3.12-" in dockerfile
    assert {c["image"] for kind in ("head", "workers") for c in containers(cluster, kind)} == {
        job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    }


def test_a_job_runs_the_images_code(job: dict[str, Any]) -> None:
    environment = yaml.safe_load(job["runtimeEnvYAML"])
    folder = get_local_dir_uri_path(environment["working_dir"])
    dockerfile = (ROOT / "clusters" / "Dockerfile").read_text()
    assert f"WORKDIR {folder}\n" in dockerfile
    for name in ("analysis", "datasets", "search", "trainables"):
        assert f"COPY {name} {name}\n" in dockerfile
    parse_and_validate_env_vars(environment["env_vars"])
    assert job["entrypoint"].startswith("exec python -m search run /shared/")
