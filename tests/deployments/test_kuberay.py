"""The RayServices fit the operator, the code and each other."""

import json
from typing import Any

import pytest
import yaml

from mnv4serve.config import ServiceConfig
from mnv4serve.serving.cluster import SERVICER_FUNCTIONS, ingress_cpus, set_flags
from tests.deployments.manifests import (
    DEPLOYMENTS,
    RAY,
    ROOT,
    all_of_kind,
    environment_of_image,
    of_kind,
    rendered,
    within,
)

SCHEMA = ROOT.parent / "shared" / "data" / "schemas" / "rayservice-v1.openapi.json"


def _spec(overlay: str) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(overlay, "RayService")["spec"]
    return spec


def _config(overlay: str) -> ServiceConfig:
    (application,) = yaml.safe_load(_spec(overlay)["serveConfigV2"])["applications"]
    return ServiceConfig.model_validate(application["args"])


def _head(overlay: str) -> dict[str, Any]:
    group: dict[str, Any] = _spec(overlay)["rayClusterConfig"]["headGroupSpec"]
    return group


def _workers(overlay: str) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = _spec(overlay)["rayClusterConfig"]["workerGroupSpecs"]
    return groups


def _container(group: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = group["template"]["spec"]["containers"][0]
    return container


def _ports(group: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in _container(group)["ports"]}


@pytest.mark.parametrize("overlay", RAY)
def test_a_ray_service_fits_kuberays_schema(overlay: str) -> None:
    """The RayService is what KubeRay's operator takes."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is missing")
    if not SCHEMA.exists():
        pytest.skip(f"{SCHEMA.name} is not there: KubeRay's schema is not part of this repository")

    schema = json.loads(SCHEMA.read_text())
    judge = jsonschema.validators.validator_for(schema)(schema)
    assert not [error.message for error in judge.iter_errors(of_kind(overlay, "RayService"))]


@pytest.mark.parametrize("overlay", RAY)
def test_the_application_of_a_ray_service_is_ours(overlay: str) -> None:
    """Builder, services, ports and configuration keys exist in the code."""
    serve = yaml.safe_load(_spec(overlay)["serveConfigV2"])
    (application,) = serve["applications"]
    config = _config(overlay)

    assert config.engine == "ray"
    assert str(config.state_dir) == environment_of_image()["MNV4SERVE_STATE_DIR"]
    assert application["import_path"] == "mnv4serve.serving.app:build_app"
    assert serve["grpc_options"]["grpc_servicer_functions"] == list(SERVICER_FUNCTIONS)
    for group in (_head(overlay), *_workers(overlay)):
        assert _ports(group)["serve"] == serve["http_options"]["port"] == config.port
        assert _ports(group)["serve-grpc"] == serve["grpc_options"]["port"] == config.grpc_port


def test_the_serve_configuration_is_ours() -> None:
    """deployments/ray-serve.yaml names the builder and keys that there are."""
    serve = yaml.safe_load((DEPLOYMENTS / "ray-serve.yaml").read_text(encoding="utf-8"))
    (application,) = serve["applications"]

    assert ServiceConfig.model_validate(application["args"]).engine == "ray"
    assert serve["grpc_options"]["grpc_servicer_functions"] == list(SERVICER_FUNCTIONS)


@pytest.mark.parametrize("overlay", RAY)
def test_every_ray_pod_has_the_switches(overlay: str) -> None:
    """Head and all workers read one list, which holds what the code itself would set."""
    expected: dict[str, str] = {}
    set_flags(expected, max_body_bytes=_config(overlay).max_body_bytes)
    (switches,) = all_of_kind(overlay, "ConfigMap")

    assert switches["data"] == expected
    for group in (_head(overlay), *_workers(overlay)):
        assert _container(group)["envFrom"] == [
            {"configMapRef": {"name": switches["metadata"]["name"]}}
        ]


@pytest.mark.parametrize("overlay", RAY)
def test_the_ray_cluster_is_closed(overlay: str) -> None:
    """Tokens come from a secret; the operator alone gets to the dashboard, and does get there."""
    cluster = _spec(overlay)["rayClusterConfig"]
    policy = next(
        one
        for one in all_of_kind(overlay, "NetworkPolicy")
        if one["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "mnv4serve"}
    )
    rules = policy["spec"]["ingress"]
    open_to = {port["port"]: rule["from"] for rule in rules for port in rule.get("ports", [])}

    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["authOptions"]["secretName"]
    assert not list(within(list(rendered(overlay)), "auth_token"))
    assert not all_of_kind(overlay, "Secret")
    # A dashboard on loopback could not be given the Serve configuration by the operator.
    assert _head(overlay)["rayStartParams"]["dashboard-host"] == "0.0.0.0"
    assert _ports(_head(overlay))["dashboard"] == 8265
    operator = {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-operator"}}
    assert open_to[8265] == [{"namespaceSelector": operator}]
    assert all(rule.get("from") for rule in rules)


@pytest.mark.parametrize("overlay", RAY)
def test_the_control_plane_survives_its_head(overlay: str) -> None:
    """Its memory is a Redis that keeps what it is told, asks for a password and is our own."""
    options = _spec(overlay)["rayClusterConfig"]["gcsFaultToleranceOptions"]
    (redis,) = all_of_kind(overlay, "StatefulSet")
    (service,) = all_of_kind(overlay, "Service")
    secret = options["redisPassword"]["valueFrom"]["secretKeyRef"]

    assert options["redisAddress"] == f"{service['metadata']['name']}:6379"
    assert "--appendonly yes" in redis["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    assert [one for _, one in within(redis, "secretKeyRef")] == [secret]


@pytest.mark.parametrize("overlay", RAY)
def test_a_new_cluster_takes_over_before_the_old_one_goes(overlay: str) -> None:
    """Both protocols move at once, and the head carries no traffic and no replica."""
    assert _spec(overlay)["upgradeStrategy"] == {"type": "NewCluster"}
    assert _spec(overlay)["excludeHeadPodFromServeSvc"] is True
    assert _head(overlay)["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("overlay", RAY)
def test_cores_agree(overlay: str) -> None:
    """Ray hands out fewer cores than a worker's cgroup has: its own processes need one."""
    for group in _workers(overlay):
        resources = _container(group)["resources"]

        assert resources["requests"] == resources["limits"]
        granted = int(resources["limits"]["cpu"])
        assert int(group["rayStartParams"]["num-cpus"]) == granted - 1


@pytest.mark.parametrize("overlay", RAY)
def test_the_workers_hold_what_the_pools_may_grow_to(overlay: str) -> None:
    """Each replica fits on a node of its kind, all of them on the nodes that there are."""
    config, groups = _config(overlay), _workers(overlay)
    nodes = [_offers(group) for group in groups for _ in range(group["replicas"])]
    wanted: list[dict[str, float]] = [{"cpu": ingress_cpus(config)}] * config.ray.ingress_replicas
    for pool in config.pools:
        if pool.placement == "deployment":
            each: dict[str, float] = {"cpu": pool.cpus or 1, "gpu": pool.gpus, **pool.resources}
            wanted += [each] * (pool.max_replicas or pool.replicas)

    for each in sorted(wanted, key=len, reverse=True):
        place = next((node for node in nodes if _fits(each, node)), None)
        assert place is not None, f"{each} finds no place"
        for name, amount in each.items():
            place[name] = place.get(name, 0) - amount


def _offers(group: dict[str, Any]) -> dict[str, float]:
    params = group["rayStartParams"]
    custom = json.loads(params.get("resources", '"{}"').strip('"').replace('\\"', '"') or "{}")
    gpus = _container(group)["resources"]["limits"].get("nvidia.com/gpu", "0")
    return {"cpu": float(params["num-cpus"]), "gpu": float(gpus), **custom}


def _fits(each: dict[str, float], node: dict[str, float]) -> bool:
    return all(node.get(name, 0) >= amount for name, amount in each.items())


@pytest.mark.parametrize("overlay", RAY)
def test_the_object_store_is_small(overlay: str) -> None:
    """Pictures do not travel through it, and by default it takes a third of the memory."""
    for group in (_head(overlay), *_workers(overlay)):
        store = int(group["rayStartParams"]["object-store-memory"])
        (shm,) = (v for v in group["template"]["spec"]["volumes"] if v["name"] == "shm")

        assert 75 << 20 <= store <= 128 << 20
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": f"{2 * store >> 20}Mi"}


@pytest.mark.parametrize("overlay", RAY)
def test_probes_and_scrapes_reach_the_pods(overlay: str) -> None:
    """Probes are the operator's, which asks Serve's own health; every node exports metrics."""
    for group in (_head(overlay), *_workers(overlay)):
        port = group["rayStartParams"]["metrics-export-port"]

        assert "readinessProbe" not in _container(group)
        assert "livenessProbe" not in _container(group)
        assert _ports(group)["metrics"] == int(port)
        assert group["template"]["metadata"]["annotations"]["prometheus.io/port"] == port


@pytest.mark.parametrize("overlay", RAY)
def test_a_worker_serves_on_while_it_is_forgotten(overlay: str) -> None:
    """It stops only after a pause, within the time that it is given."""
    for group in _workers(overlay):
        stop = _container(group)["lifecycle"]["preStop"]["exec"]["command"][-1]
        pause_s = int(stop.removeprefix("sleep ").partition(";")[0])

        assert (
            pause_s + _config(overlay).drain_timeout_s
            < (group["template"]["spec"]["terminationGracePeriodSeconds"])
        )
