"""The switches that Ray Serve needs to be fast, and the cluster of this machine.

Imports no Ray: the switches have to stand in the environment before anything of it is imported.
"""

import os
import secrets
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from mnv4serve import __version__
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.errors import BadConfig

REQUIRED = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
"""Without both an empty request takes ten times as long."""
IMPLIED = {
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}
"""What the required switches set, each of which can be taken back by itself."""
PREFERRED = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "mnv4serve.serving.ray_private:middlewares",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a log line a request, parsed in Python
    "RAY_SERVE_HAPROXY_H2_FE_INITIAL_WINDOW_SIZE": "1048576",  # pictures exceed 64 KiB
    "RAY_SERVE_HAPROXY_H2_BE_INITIAL_WINDOW_SIZE": "1048576",
    "RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S": "1000000",  # an idle pool is not probed first
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": "0.5,1,1.5,2,3,4,5,7.5,10,15,25,50,100,250,1000",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    "RAY_worker_niceness": "0",  # 15 otherwise: anything else on the host would go first
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_prestart_worker_first_driver": "0",
}
SERVICER_FUNCTIONS = ("mnv4serve.serving.ray_private.add_services",)
PROXY_PORTS = {
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": 9500,
}
"""Where HAProxy and what it falls back to listen beside the two ports of ours, by the switch."""
INGRESS = "ingress"
CPU, GPU = "CPU", "GPU"
"""As Ray calls them; any other kind of resource is one that somebody named."""
TOKEN_BYTES = 32
MESSAGE_MARGIN_BYTES = 1 << 20
HIGHEST_PORT = 65_535


def set_flags(environment: MutableMapping[str, str], *, max_body_bytes: int) -> None:
    """Put the switches into an environment that Ray will be started with.

    Raises BadConfig where it contradicts one that is required.
    """
    check_contradictions(environment)
    environment.update(REQUIRED)
    for name, value in PREFERRED.items():
        environment.setdefault(name, value)
    limit = str(max_body_bytes + MESSAGE_MARGIN_BYTES)
    environment.setdefault("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH", limit)


def check_contradictions(environment: Mapping[str, str]) -> None:
    """Raises BadConfig where a switch is set to something else than what is required."""
    for name, value in (REQUIRED | IMPLIED).items():
        if environment.get(name, value) != value:
            raise BadConfig(
                f"{name} is set to {environment[name]!r}: unset it, it has to be {value}"
            )


def check_flags(environment: Mapping[str, str], *, where: str = "the cluster") -> None:
    """Raises BadConfig unless the cluster was started with the required switches."""
    for name, value in REQUIRED.items():
        if environment.get(name) != value:
            raise BadConfig(
                f"{where} runs without {name}={value}: "
                "set it on the head and on every worker, then start them again"
            )


def proxy_ports(environment: Mapping[str, str]) -> dict[str, int]:
    """The further ports of Ray's proxies by the switch that sets each.

    Raises BadConfig where one of them is no port.
    """
    chosen = {name: environment.get(name, str(port)) for name, port in PROXY_PORTS.items()}
    for name, port in chosen.items():
        if not (port.isdecimal() and 0 < int(port) <= HIGHEST_PORT):
            raise BadConfig(f"{name} is {port!r}: give it a port from 1 to {HIGHEST_PORT}")
    return {name: int(port) for name, port in chosen.items()}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node of the cluster says of itself."""

    node: str
    version: str
    flags: Mapping[str, str]


def node_facts(node: str) -> NodeFacts:
    """Of the node that this runs on."""
    found = {name: os.environ[name] for name in REQUIRED if name in os.environ}
    return NodeFacts(node, __version__, found)


def check_nodes(nodes: Sequence[NodeFacts]) -> None:
    """Raises BadConfig naming a node without the switches or with another version than this."""
    for facts in nodes:
        check_flags(facts.flags, where=f"node {facts.node}")
        if facts.version != __version__:
            raise BadConfig(
                f"node {facts.node} has mnv4serve {facts.version}, this is {__version__}: "
                "install the same version on the head and on every worker"
            )


def set_token(environment: MutableMapping[str, str]) -> None:
    """Have a cluster that is started with this environment ask everybody for a token.

    Without one of the user's it is made up here, for as long as the cluster lives and in no file.
    Raises BadConfig where the environment says that nobody is to be asked.
    """
    mode = environment.setdefault("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise BadConfig(
            f"RAY_AUTH_MODE is set to {mode!r}: unset it, or anybody who reaches Ray's ports "
            "may run what he likes"
        )
    if not (environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH")):
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(TOKEN_BYTES)


def check_servable(config: ServiceConfig) -> None:
    """Raises BadConfig where the ray engine cannot serve what a configuration says."""
    if config.tls is not None:
        raise BadConfig(
            "tls: the ray engine answers through an HAProxy that has no TLS: take the key out and "
            "let what stands before it end TLS, or serve with the local engine"
        )
    if all(pool.placement == "deployment" for pool in config.pools):
        raise BadConfig(
            "every pool is a deployment: leave one `colocated`, which answers while the others "
            "are away"
        )


def demand(config: ServiceConfig) -> dict[str, dict[str, float]]:
    """What Ray has to set aside, by deployment and kind of resource."""
    own = {CPU: float(ingress_cpus(config)), **config.ray.ingress_resources}
    wanted = {INGRESS: _times(config.ray.ingress_replicas, own)}
    for pool in config.pools:
        if pool.placement == "deployment":
            each = {CPU: float(pool.cpus or 1), GPU: pool.gpus, **pool.resources}
            wanted[f"pool-{pool.label}"] = _times(pool.replicas, each)
    return wanted


def _times(replicas: int, each: Mapping[str, float]) -> dict[str, float]:
    return {kind: amount * replicas for kind, amount in each.items() if amount}


def named_resources(config: ServiceConfig) -> dict[str, float]:
    """Of the kinds that somebody named, how much all replicas want together."""
    total: dict[str, float] = {}
    for wanted in demand(config).values():
        for kind, amount in wanted.items():
            if kind not in {CPU, GPU}:
                total[kind] = total.get(kind, 0.0) + amount
    return total


def check_room(config: ServiceConfig, there: Mapping[str, float]) -> None:
    """Raises BadConfig naming the replicas that want more than there is: Ray waits without a word.

    A kind of resource that is not in `there` is not looked at.
    """
    wanted = demand(config)
    for kind, amount in there.items():
        shares = {name: one[kind] for name, one in wanted.items() if kind in one}
        if sum(shares.values()) > amount:
            listed = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            what, advice = _SHORT_OF.get(kind, (f"of {kind}", "or start a node that offers it"))
            raise BadConfig(
                f"the replicas want more {what} than the {amount:g} there are ({listed}): "
                f"take fewer replicas, {advice}"
            )


_SHORT_OF = {
    CPU: ("cores", "or give each pool its share of them with `cpus`"),
    GPU: ("GPUs", "or start a node that has one"),
}


def ingress_cpus(config: ServiceConfig) -> int:
    """Cores of one ingress replica: those of its colocated pools, at least one."""
    return max(1, sum(pool.cpus or 1 for pool in config.pools if pool.placement == "colocated"))


def limited(config: ServiceConfig, pools: Sequence[PoolConfig], *, cores: int) -> ServiceConfig:
    """A replica's configuration: only these pools, none of them on more cores than it was given."""
    kept = (pool.model_copy(update={"cpus": min(pool.cpus or cores, cores)}) for pool in pools)
    return config.model_copy(update={"pools": tuple(kept)})
