"""Every file of cluster/ is what its reader takes: Ray, Kubernetes, KubeRay, a shell."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from pathspec import PathSpec

from tests.cluster.kuberay_schema import RESOURCES
from tests.docs import blocks

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERNETES = "1.34"
"""The version of Kubernetes whose published schemas check the manifests."""

LAUNCHER = ("aws.yaml", "gcp.yaml")
MANIFESTS = ("kuberay/raycluster.yaml", "kuberay/rayjob.yaml")
ELSEWHERE = {
    "runtime-env.yaml": "tests/test_packaging.py",
    "Dockerfile": "here",
    "README.md": "here",
    "CAPACITY.md": "tests/benchmarks/test_scale.py",
    "capacity.json": "tests/benchmarks/test_scale.py",
    "kuberay/rayservice.yaml": "tests/cluster/test_serve.py",
    "grafana/fusionrec.json": "tests/cluster/test_grafana.py",
}


def ray_version() -> str:
    [line] = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if "ray==" in line
    ]
    return line.split("==")[1]


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def test_every_file_is_checked_by_a_test() -> None:
    found = {str(p.relative_to(CLUSTER)) for p in CLUSTER.rglob("*") if p.is_file()}
    assert found == {*LAUNCHER, *MANIFESTS, *ELSEWHERE}


# --- ray up ------------------------------------------------------------------------------


def launcher(name: str) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(yaml.safe_load((CLUSTER / name).read_text()))
    validate_config(prepared)  # ray-schema.json of the installed Ray
    return prepared


@pytest.mark.parametrize("name", LAUNCHER)
def test_rays_launcher_takes_the_config(name) -> None:
    config = launcher(name)
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0  # kept free of work
    for group in ("cpu", "gpu"):
        assert types[group]["min_workers"] == 0
        node = types[group]["node_config"]
        assert (
            "spot" in str(node.get("InstanceMarketOptions")) or node["scheduling"][0]["preemptible"]
        )
    assert sum(types[group]["max_workers"] for group in ("cpu", "gpu")) <= config["max_workers"]
    assert f"ray:{ray_version()}-py311" in config["docker"]["image"]
    [start] = [line for line in config["head_start_ray_commands"] if "--head" in line]
    assert "--dashboard-host=127.0.0.1" in shlex.split(start.replace("~", ""))


def test_rays_launcher_refuses_what_is_wrong() -> None:
    """The check can fail."""
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(jsonschema.ValidationError, match="no_such_key"):
        validate_config({**launcher("aws.yaml"), "no_such_key": 1})


def test_aws_has_the_machines(monkeypatch) -> None:
    """Ray's own code asks a mock of EC2 what the types of machine hold."""
    from moto import mock_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        filled = AWSNodeProvider.fillout_available_node_types_resources(launcher("aws.yaml"))
    types = filled["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["cpu"]["resources"]["CPU"] == 16
    assert types["gpu"]["resources"]["GPU"] == 1


# --- KubeRay -----------------------------------------------------------------------------


def clusters() -> list[tuple[str, dict[str, Any]]]:
    """Name of the file and the cluster's spec."""
    [cluster, *_] = documents("kuberay/raycluster.yaml")
    [job, *_] = documents("kuberay/rayjob.yaml")
    return [
        ("kuberay/raycluster.yaml", cluster["spec"]),
        ("kuberay/rayjob.yaml", job["spec"]["rayClusterSpec"]),
    ]


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"] for group in groups]


@pytest.mark.parametrize("name", MANIFESTS)
def test_kuberay_and_kubernetes_know_every_field(name) -> None:
    for resource in documents(name):
        if resource["kind"] in RESOURCES:
            jsonschema.validate(resource, RESOURCES[resource["kind"]])
            cluster = resource["spec"].get("rayClusterSpec", resource["spec"])
            for template in pods(cluster):
                pod = {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "pod", **template.get("metadata", {})},
                    "spec": template["spec"],
                }
                kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        else:
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)


@pytest.mark.parametrize("place", ["spec", "headGroupSpec", "pod"])
def test_a_field_that_does_not_exist_is_noticed(place) -> None:
    [cluster, *_] = documents("kuberay/raycluster.yaml")
    head = cluster["spec"]["headGroupSpec"]
    pod = head["template"]["spec"]
    {"spec": cluster["spec"], "headGroupSpec": head, "pod": pod}[place]["noSuchField"] = 1
    if place == "pod":
        wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod}
        with pytest.raises(kubernetes_validate.ValidationError, match="noSuchField"):
            kubernetes_validate.validate(wrapped, KUBERNETES, strict=True)
    else:
        with pytest.raises(jsonschema.ValidationError, match="noSuchField"):
            jsonschema.validate(cluster, RESOURCES["RayCluster"])


@pytest.mark.parametrize(("name", "spec"), clusters())
def test_rays_autoscaler_takes_the_cluster(name, spec) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler._private.util import validate_config

    resource = {"metadata": {"name": "fusionrec", "namespace": "default"}, "spec": spec}
    config = _derive_autoscaling_config_from_ray_cr(resource)
    validate_config(config)
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["cpu"]["resources"]["CPU"] == 16
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["cpu"]["min_workers"] == types["gpu"]["min_workers"] == 0
    assert spec["rayVersion"] == ray_version()


@pytest.mark.parametrize(("name", "spec"), clusters())
def test_pods_run_without_root_and_within_limits(name, spec) -> None:
    for template in pods(spec):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            limits = container["resources"]["limits"]
            assert {"cpu", "memory"} <= set(limits)
            assert container["resources"]["requests"] == limits


def test_who_may_reach_the_dashboard() -> None:
    """Loopback, but for the RayJob, whose operator has to reach it: nobody else may there."""
    (_, cluster), (_, job) = clusters()
    assert cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert job["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "0.0.0.0"
    [policy] = [d for d in documents("kuberay/rayjob.yaml") if d["kind"] == "NetworkPolicy"]
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    assert chosen <= job["headGroupSpec"]["template"]["metadata"]["labels"].items()
    for rule in policy["spec"]["ingress"]:
        sources = [source["podSelector"]["matchLabels"] for source in rule["from"]]
        assert sources in (
            [{"app.kubernetes.io/name": "kuberay-operator"}],
            [{"ray.io/is-ray-node": "yes"}],
        )


# --- the image ---------------------------------------------------------------------------


def test_the_image() -> None:
    parser = DockerfileParser(str(CLUSTER / "Dockerfile"))
    assert parser.baseimage.split(":")[1].startswith(f"{ray_version()}-py311")
    steps = [(step["instruction"], step["value"]) for step in parser.structure]
    users = [value for instruction, value in steps if instruction == "USER"]
    assert users
    assert set(users) == {"ray"}
    known = {"FROM", "USER", "WORKDIR", "COPY", "RUN", "ENV", "COMMENT"}
    assert {instruction for instruction, _ in steps} <= known
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[ignored.index("*")] == "*"
    for instruction, value in steps:
        if instruction == "COPY":
            *sources, _ = [word for word in shlex.split(value) if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert {f"!{source}", f"!{source}/"} & set(ignored), source
        if instruction == "RUN":
            assert "--constraint constraints.txt" in value


# --- secrets and the guide ---------------------------------------------------------------

SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|(?i:secret|password|token|access_key)[\w.]*\s*[:=]\s*['\"]?\w{12,}"
)


@pytest.mark.parametrize("path", sorted(p for p in CLUSTER.rglob("*") if p.is_file()), ids=str)
def test_no_file_holds_a_secret(path) -> None:
    assert not SECRET.search(path.read_text())
    assert SECRET.search("aws_secret_access_key: wJalrXUtnFEMIK7MDENG")  # it would be found


def commands() -> list[list[str]]:
    """The words of every command that the guide shows."""
    shown = [block for block in blocks.blocks("cluster/README.md") if block.language == "sh"]
    lines = [line for block in shown for line in blocks.commands(block)]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_guides_commands_name_what_is_there(words) -> None:
    """Files and modules; the keys, commands and options of all pages are tests/docs' matter."""
    files = {"--config", "--runtime-env", "-f", "--file", "up", "down", "attach"}
    if words[:2] == ["ray", "dashboard"]:
        files.add("dashboard")
    for option, value in pairwise(words):
        if option in files:
            assert (ROOT / value).is_file(), value
        elif option == "-m":
            module = ROOT / Path(*value.split("."))
            assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), value


def test_uploads_leave_out_data_and_workspaces() -> None:
    excludes = yaml.safe_load((CLUSTER / "runtime-env.yaml").read_text())["excludes"]
    left_out = PathSpec.from_lines("gitwildmatch", excludes)
    for name in (".git/HEAD", ".venv/bin/python", ".venv-gpu/pyvenv.cfg", "demo/corpus/truth.json"):
        assert left_out.match_file(name), name
    for name in (
        "workspace/ingest/report.json",
        "workspace2/x",
        "corpus/a.h5",
        "data/songs.parquet",
    ):
        assert left_out.match_file(name), name


def test_uploads_have_all_of_the_packages() -> None:
    """A module of a name like a workspace's was once left behind."""
    excludes = yaml.safe_load((CLUSTER / "runtime-env.yaml").read_text())["excludes"]
    left_out = PathSpec.from_lines("gitwildmatch", excludes)
    ours = [
        path for name in ("fusionrec", "pipelines", "cluster") for path in (ROOT / name).rglob("*")
    ]
    files = [str(path.relative_to(ROOT)) for path in ours if path.is_file()]
    assert len(files) > 150
    assert not [file for file in files if left_out.match_file(file)]
