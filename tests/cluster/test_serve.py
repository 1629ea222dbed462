"""The RayService is what Kubernetes, KubeRay, Ray Serve and the service itself take."""

from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from fusionrec.errors import ConfigError
from pipelines.serve.ray_app import Arguments, build
from pipelines.serve.settings import TOKEN
from tests.cluster.kuberay_schema import RESOURCES
from tests.cluster.test_files import KUBERNETES, documents, pods, ray_version

NAME = "kuberay/rayservice.yaml"


def service() -> dict[str, Any]:
    return documents(NAME)[0]


def test_kuberay_and_kubernetes_know_every_field() -> None:
    first, *others = documents(NAME)
    jsonschema.validate(first, RESOURCES["RayService"])
    assert first["spec"]["rayClusterConfig"]["rayVersion"] == ray_version()
    for template in pods(first["spec"]["rayClusterConfig"]):
        metadata = {"name": "pod", **template["metadata"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    for other in others:
        kubernetes_validate.validate(other, KUBERNETES, strict=True)
    with pytest.raises(jsonschema.ValidationError, match="noSuchField"):
        jsonschema.validate({**first, "noSuchField": 1}, RESOURCES["RayService"])


def test_ray_serve_takes_the_config() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(service()["spec"]["serveConfigV2"]))
    (app,) = config.applications
    assert app.import_path == f"{build.__module__}:{build.__name__}"
    assert Arguments.model_validate(app.args).needs_token
    assert build(app.args) is not None
    with pytest.raises(ConfigError, match="replcas: Extra inputs are not permitted"):
        build({**app.args, "replcas": 3})
    assert config.http_options.port == 8000


def test_pods_run_without_root_and_have_the_token_by_a_secret() -> None:
    (policy,) = [each for each in documents(NAME) if each["kind"] == "NetworkPolicy"]
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    for template in pods(service()["spec"]["rayClusterConfig"]):
        assert chosen <= template["metadata"]["labels"].items()
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"] == container["resources"]["limits"]
        (token,) = container["env"]
        assert token["name"] == TOKEN
        assert "secretKeyRef" in token["valueFrom"]


def test_only_requests_come_from_elsewhere() -> None:
    (policy,) = [each for each in documents(NAME) if each["kind"] == "NetworkPolicy"]
    for rule in policy["spec"]["ingress"]:
        if "from" not in rule:
            assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]
        else:
            assert all("podSelector" in source for source in rule["from"])
