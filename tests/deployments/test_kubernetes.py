"""Every overlay renders, fits its schema and agrees with the code."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnv4serve import __version__
from mnv4serve.config import ServiceConfig, load_config
from tests.deployments.exported import exported
from tests.deployments.manifests import (
    DEPLOYMENTS,
    LOCAL,
    RAY,
    ROOT,
    all_of_kind,
    containers,
    environment_of_image,
    of_kind,
    pods,
    rendered,
    within,
)

KUBERNETES = "1.34"
CUSTOM = {"RayService", "NodeFeatureRule"}
STATE = "/var/lib/mnv4serve"


@pytest.mark.parametrize("overlay", [*LOCAL, *RAY])
def test_an_overlay_fits_the_schemas_of_kubernetes(overlay: str) -> None:
    """Every resource of Kubernetes' own is valid, unknown fields included."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing")

    standard = [found for found in rendered(overlay) if found["kind"] not in CUSTOM]
    checked = [validate.validate(resource, KUBERNETES, strict=True) for resource in standard]
    assert checked
    assert all(version.startswith(KUBERNETES) for version in checked)


@pytest.mark.parametrize("overlay", [*LOCAL, *RAY])
def test_every_pod_is_locked_down(overlay: str) -> None:
    """No root, nothing writable but volumes, limits on all, no variables made of service names."""
    for pod in pods(list(rendered(overlay))):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        for container in containers(pod):
            locked = container["securityContext"]
            assert locked["allowPrivilegeEscalation"] is False
            assert locked["readOnlyRootFilesystem"] is True
            assert locked["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@pytest.mark.parametrize("overlay", [*LOCAL, *RAY])
def test_nothing_selects_pods_of_others(overlay: str) -> None:
    """Policies, budgets and Services name our pods: an empty selector means the whole namespace."""
    templates = [owner["metadata"]["labels"] for owner, _ in _templates(overlay)]
    # The operator adds these to the pods that it makes.
    made = [labels | {"ray.io/node-type": kind} for labels in templates for kind in ("worker", "")]

    for resource in rendered(overlay):
        selector = _selector(resource)
        if selector is not None:
            assert selector, f"{resource['kind']} selects everything"
            assert any(selector.items() <= labels.items() for labels in made), selector


def _templates(overlay: str) -> list[tuple[dict[str, Any], Any]]:
    return [(template, pod) for _, template in within(list(rendered(overlay)), "template")
            for pod in pods(template)]  # fmt: skip


def _selector(resource: Mapping[str, Any]) -> Mapping[str, str] | None:
    match resource["kind"]:
        case "NetworkPolicy":
            return resource["spec"]["podSelector"].get("matchLabels", {})  # type: ignore[no-any-return]
        case "PodDisruptionBudget" | "Deployment" | "StatefulSet":
            return resource["spec"]["selector"].get("matchLabels", {})  # type: ignore[no-any-return]
        case "Service":
            return resource["spec"]["selector"]  # type: ignore[no-any-return]
        case _:
            return None


@pytest.mark.parametrize("overlay", [*LOCAL, *RAY])
def test_our_images_are_targets_of_the_dockerfile(overlay: str) -> None:
    """Each is `mnv4serve:VERSION-TARGET`, as the Dockerfile's first lines name them."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^FROM runtime AS (\S+)$", text, re.MULTILINE))

    for pod in pods(list(rendered(overlay))):
        for container in containers(pod):
            name, _, tag = container["image"].partition(":")
            if name == "redis":
                continue
            version, _, target = tag.partition("-")
            assert (name, version) == ("mnv4serve", __version__)
            assert target in targets
            assert f"--target {target} " in text
            assert f"mnv4serve:{tag} " in text


@pytest.mark.parametrize("overlay", [*LOCAL, *RAY])
def test_the_state_folder_is_filled_from_the_image_and_writable(overlay: str) -> None:
    """What is built in is copied to a volume, which lies where the image looks for it."""
    assert environment_of_image()["MNV4SERVE_STATE_DIR"] == STATE
    for pod in pods(list(rendered(overlay))):
        served = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
        for preparing in pod.get("initContainers", []):
            (state,) = (m for m in preparing["volumeMounts"] if m["name"] == "state")
            assert f"{STATE}/. {state['mountPath']}/" in " ".join(preparing["command"])
            assert preparing["image"] == pod["containers"][0]["image"]
            assert STATE in served


@pytest.mark.parametrize("overlay", LOCAL)
def test_ports_probes_and_configuration_agree(overlay: str, tmp_path: Path) -> None:
    """What is probed and published is what the configuration makes the service listen on."""
    pod = next(pods(of_kind(overlay, "Deployment")))
    container = pod["containers"][0]
    written = tmp_path / "config.yaml"
    written.write_text(of_kind(overlay, "ConfigMap")["data"]["config.yaml"], encoding="utf-8")
    image = environment_of_image() | {one["name"]: one["value"] for one in container["env"]}

    config = load_config(file=written, flags={}, environment=image)

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": config.port, "grpc": config.grpc_port}
    assert (config.host, str(config.state_dir)) == ("0.0.0.0", STATE)
    for service in all_of_kind(overlay, "Service"):
        assert all(ports[port["targetPort"]] == port["port"] for port in service["spec"]["ports"])
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert pod["terminationGracePeriodSeconds"] > config.drain_delay_s + config.drain_timeout_s


@pytest.mark.parametrize("overlay", LOCAL)
def test_cores_are_whole_and_granted(overlay: str) -> None:
    """Requested and limited alike, so that a static CPU manager gives them to the pod alone."""
    resources = next(pods(of_kind(overlay, "Deployment")))["containers"][0]["resources"]

    assert resources["requests"] == resources["limits"]
    assert resources["limits"]["cpu"].isdigit()


def test_the_autoscaler_asks_for_our_metrics() -> None:
    """Each pod metric is made by the adapter's rules from one that the service exports."""
    scaler = of_kind(LOCAL[0], "HorizontalPodAutoscaler")
    asked = {one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"] if "pods" in one}
    adapter = yaml.safe_load((DEPLOYMENTS / "monitoring" / "adapter.yaml").read_text("utf-8"))
    made = {rule["name"]["as"]: rule["seriesQuery"].partition("{")[0] for rule in adapter["rules"]}

    assert asked == made.keys()
    assert set(made.values()) <= exported()
    assert "replicas" not in of_kind(LOCAL[0], "Deployment")["spec"]


def test_a_coral_device_is_known_in_every_guise() -> None:
    """USB before and after its firmware is loaded, PCIe; the label is what pods ask for."""
    rule = of_kind(LOCAL[1], "NodeFeatureRule")
    asked = [ids for _, ids in within(rule, "matchExpressions")]
    ids = [(one["vendor"]["value"][0], one["device"]["value"][0]) for one in asked]
    pod = next(pods(of_kind(LOCAL[1], "Deployment")))

    assert sorted(ids) == [("18d1", "9302"), ("1a6e", "089a"), ("1ac1", "089a")]
    assert pod["nodeSelector"] == rule["spec"]["rules"][0]["labels"]


def test_the_pools_of_the_edge_are_ours() -> None:
    """The environment that makes the Edge TPU a pool is a configuration."""
    container = next(pods(of_kind(LOCAL[1], "Deployment")))["containers"][0]
    environment = {one["name"]: one["value"] for one in container["env"]}
    environment.pop("MNV4SERVE_CONFIG")

    config: ServiceConfig = load_config(file=None, flags={}, environment=environment)

    assert [pool.device for pool in config.pools] == ["cpu", "edgetpu:0"]
    assert container["resources"]["limits"]["squat.ai/coral"] == "1"
