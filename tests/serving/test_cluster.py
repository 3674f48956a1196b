"""The switches of the ray engine, and the cores that its replicas want."""

import pytest

from mnv4serve.config import PoolConfig, RayConfig, ServiceConfig
from mnv4serve.errors import BadConfig
from mnv4serve.serving.cluster import (
    REQUIRED,
    NodeFacts,
    check_flags,
    check_nodes,
    demand,
    node_facts,
    set_flags,
)
from mnv4serve.serving.ray_engine import reason_in


def test_the_switches_are_set_where_nothing_is() -> None:
    """An empty environment gets both required switches and room for the largest body."""
    environment: dict[str, str] = {}

    set_flags(environment, max_body_bytes=5_000_000)

    assert REQUIRED.items() <= environment.items()
    assert int(environment["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"]) > 5_000_000
    check_flags(environment)


@pytest.mark.parametrize("name", REQUIRED)
def test_an_environment_that_contradicts_is_refused(name: str) -> None:
    """A switch that somebody turned off is named, not overruled."""
    with pytest.raises(BadConfig, match=name):
        set_flags({name: "0"}, max_body_bytes=1)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_cluster_without_a_switch_is_refused(name: str) -> None:
    """A cluster that was started slow says which switch is missing."""
    others = {key: value for key, value in REQUIRED.items() if key != name}

    with pytest.raises(BadConfig, match=name):
        check_flags(others)


def test_a_node_that_differs_is_named() -> None:
    """Switches and version of every node are those of this process, or the node is named."""
    same = NodeFacts("10.0.0.1", node_facts("here").version, dict(REQUIRED))

    check_nodes([same])

    with pytest.raises(BadConfig, match=r"10\.0\.0\.2 has mnv4serve 0\.0"):
        check_nodes([same, NodeFacts("10.0.0.2", "0.0", dict(REQUIRED))])
    with pytest.raises(BadConfig, match=r"10\.0\.0\.3 runs without"):
        check_nodes([same, NodeFacts("10.0.0.3", same.version, {})])


def test_what_the_user_chose_is_kept() -> None:
    """A preferred value gives way to one that is there."""
    environment = {"RAY_SERVE_HAPROXY_NBTHREAD": "8"}

    set_flags(environment, max_body_bytes=1)

    assert environment["RAY_SERVE_HAPROXY_NBTHREAD"] == "8"


def test_every_replica_counts() -> None:
    """Cores are those of the ingresses with their colocated pools and of each deployment."""
    config = ServiceConfig(
        pools=(
            PoolConfig(cpus=2),
            PoolConfig(name="onnx", cpus=3, placement="deployment", replicas=2),
        ),
        ray=RayConfig(ingress_replicas=2),
    )

    assert demand(config) == {"ingress": 4.0, "pool-onnx": 6.0}


def test_the_reason_of_a_failed_deployment_is_ours() -> None:
    """Of a traceback the sentence of our own error is told, else its last line."""
    traceback = "Traceback:\n  File x\nmnv4serve.errors.ArtifactMissing: run mnv4serve build\nmore"

    assert reason_in(traceback) == "run mnv4serve build"
    assert reason_in("first\nlast\n") == "last"
