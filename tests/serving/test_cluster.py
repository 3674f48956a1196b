"""The switches of the ray engine, and the cores that its replicas want."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from mnv4serve.config import PoolConfig, RayConfig, ServiceConfig, TlsConfig
from mnv4serve.errors import BackendUnavailable, BadConfig
from mnv4serve.serving.cluster import (
    IMPLIED,
    REQUIRED,
    NodeFacts,
    check_flags,
    check_nodes,
    check_room,
    demand,
    limited,
    named_resources,
    node_facts,
    set_flags,
    set_token,
)
from mnv4serve.serving.ray_engine import _await_room, check_alone, check_setup, reason_in

CORAL = PoolConfig(device="edgetpu:0", resources={"edgetpu": 1}, placement="deployment", replicas=2)
CUDA = PoolConfig(device="cuda:0", cpus=2, gpus=1, placement="deployment")


def test_the_switches_are_set_where_nothing_is() -> None:
    """An empty environment gets both required switches and room for the largest body."""
    environment: dict[str, str] = {}

    set_flags(environment, max_body_bytes=5_000_000)

    assert REQUIRED.items() <= environment.items()
    assert int(environment["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"]) > 5_000_000
    check_flags(environment)


@pytest.mark.parametrize(("name", "value"), (REQUIRED | IMPLIED).items())
def test_an_environment_that_contradicts_is_refused(name: str, value: str) -> None:
    """A switch that somebody turned the other way is named, not overruled."""
    with pytest.raises(BadConfig, match=name):
        set_flags({name: "10"[int(value)]}, max_body_bytes=1)
    set_flags({name: value}, max_body_bytes=1)


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
        ray=RayConfig(ingress_replicas=2, ingress_resources={"near": 1}),
    )

    assert demand(config) == {"ingress": {"CPU": 4.0, "near": 2.0}, "pool-onnx": {"CPU": 6.0}}


def test_a_replica_uses_no_more_cores_than_it_was_given() -> None:
    """Ray's grant bounds what a pool was configured for, and is all of it where nothing was."""
    wide, open_ended, other = PoolConfig(cpus=8), PoolConfig(name="b"), PoolConfig(name="c")
    config = ServiceConfig(pools=(wide, open_ended, other))

    own = limited(config, [wide, open_ended], cores=2)

    assert [(pool.label, pool.cpus) for pool in own.pools] == [("cpu", 2), ("b", 2)]


def test_devices_are_set_aside_by_their_kind() -> None:
    """A GPU and what somebody named count as much as cores; only the latter has to be declared."""
    config = ServiceConfig(pools=(PoolConfig(), CORAL, CUDA))

    assert demand(config) == {
        "ingress": {"CPU": 1.0},
        "pool-edgetpu:0": {"CPU": 2.0, "edgetpu": 2.0},
        "pool-cuda:0": {"CPU": 2.0, "GPU": 1.0},
    }
    assert named_resources(config) == {"edgetpu": 2.0}


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (
            {"CPU": 4.0},
            r"cores than the 4 there are \(ingress 1, pool-edgetpu:0 2, pool-cuda:0 2\)",
        ),
        ({"CPU": 5.0, "GPU": 0.0}, r"GPUs than the 0 there are \(pool-cuda:0 1\)"),
        ({"edgetpu": 1.0}, r"of edgetpu than the 1 there are \(pool-edgetpu:0 2\)"),
    ],
)
def test_too_little_for_the_replicas_is_told(there: Mapping[str, float], said: str) -> None:
    """Who wants what and how much there is; Ray itself would wait without a word."""
    with pytest.raises(BadConfig, match=said):
        check_room(ServiceConfig(pools=(PoolConfig(), CORAL, CUDA)), there)


def test_a_worker_may_join_late() -> None:
    """What is missing at first and there in time is no reason to refuse."""
    offers = iter(({"CPU": 1.0}, {"CPU": 3.0, "edgetpu": 2.0}))

    _await_room(lambda: next(offers), ServiceConfig(pools=(PoolConfig(), CORAL)))

    assert next(offers, None) is None


def test_a_worker_that_does_not_join_is_told() -> None:
    """A kind that the cluster does not know at all is short as well."""
    config = ServiceConfig(pools=(PoolConfig(), CORAL))

    with pytest.raises(BadConfig, match="of edgetpu than the 0 there are"):
        _await_room(lambda: {"CPU": 8.0}, config, patience_s=0.0)


def test_too_few_cores_are_told_before_anything_is_built() -> None:
    """A cluster of this machine cannot have more than the machine."""
    config = ServiceConfig(pools=(PoolConfig(cpus=100_000),))

    with pytest.raises(BadConfig, match=r"more cores than .*ingress 100000\)"):
        check_setup(config)


def test_tls_is_refused_instead_of_left_out() -> None:
    """Whoever configured it must not be served in the clear."""
    tls = TlsConfig(certificate=Path("c.pem"), key=Path("k.pem"))

    with pytest.raises(BadConfig, match=r"tls: .* HAProxy"):
        check_setup(ServiceConfig(tls=tls))


def test_an_ingress_without_a_pool_is_refused() -> None:
    """Whatever happens to the others, it has something to answer with."""
    with pytest.raises(BadConfig, match="leave one `colocated`"):
        check_setup(ServiceConfig(pools=(CORAL,)))


def test_a_cluster_that_is_started_asks_for_a_token() -> None:
    """One is made up where there is none, another each time; the user's own is kept."""
    first: dict[str, str] = {}
    second: dict[str, str] = {}
    own = {"RAY_AUTH_TOKEN_PATH": "/run/secrets/ray"}

    for environment in (first, second, own):
        set_token(environment)

    assert first["RAY_AUTH_MODE"] == own["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) >= 32
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    assert "RAY_AUTH_TOKEN" not in own


def test_a_cluster_open_to_everybody_is_refused() -> None:
    """Whoever reaches the ports of such a cluster runs any code on it."""
    with pytest.raises(BadConfig, match="RAY_AUTH_MODE is set to 'disabled'"):
        set_token({"RAY_AUTH_MODE": "disabled"})


def test_serve_that_runs_already_is_left_alone() -> None:
    """Its ports and options are another's; what to do instead is named."""
    check_alone(SimpleNamespace(proxies={}, applications={}))

    with pytest.raises(BackendUnavailable, match="serve deploy"):
        check_alone(SimpleNamespace(proxies={"node": "HEALTHY"}, applications={}))


def test_the_reason_of_a_failed_deployment_is_ours() -> None:
    """Of a traceback the sentence of our own error is told, else its last line."""
    traceback = "Traceback:\n  File x\nmnv4serve.errors.ArtifactMissing: run mnv4serve build\nmore"

    assert reason_in(traceback) == "run mnv4serve build"
    assert reason_in("first\nlast\n") == "last"
