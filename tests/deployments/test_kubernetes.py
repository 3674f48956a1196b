"""Every overlay renders, fits its schema and agrees with the code."""

import functools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnv4serve.config import ServiceConfig
from mnv4serve.serving.cluster import PREFERRED, REQUIRED, SERVICER_FUNCTIONS

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
SCHEMA = ROOT.parent / "shared" / "data" / "schemas" / "rayservice-v1.openapi.json"
LOCAL = [f"kubernetes/overlays/{name}" for name in ("cpu", "edge")]
RAY = [f"kuberay/overlays/{name}" for name in ("cpu", "gpu", "coral")]
CUSTOM = {"RayService", "NodeFeatureRule"}


@functools.cache
def _rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed, which renders the overlays")
    text = subprocess.run(
        [kubectl, "kustomize", str(DEPLOYMENTS / overlay)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(yaml.safe_load_all(text))


def _of_kind(overlay: str, kind: str) -> dict[str, Any]:
    (found,) = (one for one in _rendered(overlay) if one["kind"] == kind)
    return found


def _pods(node: object) -> Iterator[dict[str, Any]]:
    """Every pod specification within a manifest."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for child in node.values():
            yield from _pods(child)
    elif isinstance(node, list):
        for child in node:
            yield from _pods(child)


@pytest.mark.parametrize("overlay", [*LOCAL, *RAY])
def test_an_overlay_fits_the_schemas_of_kubernetes(overlay: str) -> None:
    """Every resource of Kubernetes' own is valid, unknown fields included."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing")

    for resource in _rendered(overlay):
        if resource["kind"] not in CUSTOM:
            validate.validate(resource, "1.34", strict=True)


@pytest.mark.parametrize("overlay", RAY)
def test_a_ray_service_fits_kuberays_schema(overlay: str) -> None:
    """The RayService is what KubeRay's operator takes."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is missing")
    if not SCHEMA.exists():
        pytest.skip(f"{SCHEMA.name} is not there: KubeRay's schema is not part of this repository")

    jsonschema.validate(_of_kind(overlay, "RayService"), json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("overlay", RAY)
def test_the_application_of_a_ray_service_is_ours(overlay: str) -> None:
    """Builder, services, ports and configuration keys exist in the code."""
    serve = yaml.safe_load(_of_kind(overlay, "RayService")["spec"]["serveConfigV2"])
    (application,) = serve["applications"]

    config = ServiceConfig.model_validate(application["args"])

    assert config.engine == "ray"
    assert application["import_path"] == "mnv4serve.serving.app:build_app"
    assert serve["grpc_options"]["grpc_servicer_functions"] == list(SERVICER_FUNCTIONS)
    assert serve["http_options"]["port"] == config.port
    assert serve["grpc_options"]["port"] == config.grpc_port


def test_the_serve_configuration_is_ours() -> None:
    """deployments/ray-serve.yaml names the builder and keys that there are."""
    serve = yaml.safe_load((DEPLOYMENTS / "ray-serve.yaml").read_text(encoding="utf-8"))
    (application,) = serve["applications"]

    assert ServiceConfig.model_validate(application["args"]).engine == "ray"
    assert serve["grpc_options"]["grpc_servicer_functions"] == list(SERVICER_FUNCTIONS)


@pytest.mark.parametrize("overlay", RAY)
def test_every_ray_pod_has_the_switches(overlay: str) -> None:
    """Head and all workers carry the same switches, as the code would set them."""
    service = _of_kind(overlay, "RayService")
    for pod in _pods(service):
        env = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        assert REQUIRED.items() <= env.items()
        assert all(env[name] == value for name, value in PREFERRED.items() if name in env)
        ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
        assert (ports["serve"], ports["serve-grpc"]) == (8000, 9000)


@pytest.mark.parametrize("overlay", RAY)
def test_the_ray_cluster_is_closed(overlay: str) -> None:
    """Tokens are asked for and come from a secret; the dashboard stays on its own host."""
    cluster = _of_kind(overlay, "RayService")["spec"]["rayClusterConfig"]

    assert cluster["authOptions"]["mode"] == "token"
    assert "secretName" in cluster["authOptions"]
    assert cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"


@pytest.mark.parametrize("overlay", [*LOCAL, *RAY])
def test_every_pod_is_locked_down(overlay: str) -> None:
    """No root, no new privileges, limits on everything, no variables made of service names."""
    for resource in _rendered(overlay):
        for pod in _pods(resource):
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["enableServiceLinks"] is False
            for container in pod["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert container["resources"]["limits"]


@pytest.mark.parametrize("overlay", LOCAL)
def test_ports_probes_and_configuration_agree(overlay: str) -> None:
    """What is probed and published is what the configuration makes the service listen on."""
    container = next(_pods(_of_kind(overlay, "Deployment")))["containers"][0]
    written = _of_kind(overlay, "ConfigMap")["data"]["config.yaml"]

    config = ServiceConfig.model_validate(yaml.safe_load(written))

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": config.port, "grpc": config.grpc_port}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    grace_s = next(_pods(_of_kind(overlay, "Deployment")))["terminationGracePeriodSeconds"]
    assert grace_s > config.drain_delay_s + config.drain_timeout_s
