"""The ray engine: an ingress with the router and its colocated pools, deployments for the others.

The only module with Ray Serve's deployments; what it needs of Ray beyond the public interface
stands in `ray_private`.
"""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from threading import Lock
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mnv4serve import __version__
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.host import survey
from mnv4serve.metrics import Metrics
from mnv4serve.serving.assemble import assemble, watch
from mnv4serve.serving.autoscaling import DEMAND, WAIT_MS, replicas_of
from mnv4serve.serving.cluster import (
    INGRESS,
    NodeFacts,
    check_flags,
    check_nodes,
    check_servable,
    ingress_cpus,
    limited,
    node_facts,
)
from mnv4serve.serving.errand import Done, Errand, Failed, Portrait, Report
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.generations import NEW, Generations, changed, generation_of, retire
from mnv4serve.serving.http_api import App, make_app
from mnv4serve.serving.pool_host import PoolHost
from mnv4serve.serving.portraits import portraits
from mnv4serve.serving.ray_metrics import Flusher, RaySink
from mnv4serve.serving.ray_private import by_value, publish
from mnv4serve.serving.relay import Answered, Passed, answer
from mnv4serve.serving.remote import Link, RemotePool, remote_pool
from mnv4serve.serving.site import Assembled

MAX_ONGOING = 1024
"""Far above what admission lets through, so that Serve itself never queues or refuses."""
ATTEMPTS = 3
"""To start a replica: what fails every time, such as a missing artifact, is told soon."""
NODES_TIMEOUT_S = 60.0


class _Ingress:
    """Both protocols, the router and the colocated pools, in one replica."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ServiceConfig, pools: dict[str, DeploymentHandle]
    ) -> None:
        check_flags(os.environ)
        self._config = config
        self._handles = pools
        self._sink = RaySink()
        self._metrics = Metrics(self._sink)
        self._flusher = Flusher(self._metrics, self._sink)
        self._gateway = Gateway(
            config=config,
            zoo_name="",
            labels=(),
            observe=self._flusher.observe,
            metrics_text=None,
        )
        publish(self._gateway)
        self._tasks: set[asyncio.Task[None]] = set()
        self._joining: list[asyncio.Task[None]] = []
        self._keep(self._flusher.run())
        await self._bring_up(config, NEW)

    async def reconfigure(self, changes: dict[str, Any]) -> None:
        """Serve's hook for `user_config`: load what it changes, warm it, switch, drain the rest."""
        await self._bring_up(changed(self._config, changes), generation_of(changes))

    async def _bring_up(self, config: ServiceConfig, generation: str) -> None:
        local = _granted(config, [p for p in config.pools if p.label not in self._handles])
        site = await asyncio.to_thread(survey, local)
        self._metrics.describe_build(version=__version__, zoo=site.zoo_name, engine="ray")
        assembled = await asyncio.to_thread(assemble, site, local, metrics=self._metrics)
        there, away = await portraits(
            {label: by_value(handle, "portrait") for label, handle in self._handles.items()},
            wanted=lambda portrait: generation in (NEW, portrait.generation),
        )
        same_zoo = [portrait for portrait in there if portrait.zoo == site.zoo_name]
        remotes = [self._remote(portrait, config, assembled.lock) for portrait in same_zoo]
        labels = [label.name for label in site.zoo.labels]
        views = [view for portrait in same_zoo for view in portrait.views]
        before = self._gateway.open(assembled, remotes, views, zoo=(site.zoo_name, labels))
        self._keep(retire(before))
        for joining in self._joining:
            joining.cancel()
        self._joining = [
            self._keep(self._join(label, asking, config, assembled))
            for label, asking in away.items()
        ]

    async def _join(
        self, label: str, asking: asyncio.Task[Portrait], config: ServiceConfig, among: Assembled
    ) -> None:
        """Take a pool that was away when the others were opened, once it is there."""
        self._metrics.watch_device(
            label,
            queue_depth=lambda: 0.0,
            slowdown=lambda: 1.0,
            up=lambda: 0.0,
            simulated=False,
        )
        try:
            portrait = await asking
        finally:
            asking.cancel()
        if portrait.zoo == self._gateway.zoo_name:
            pool = self._remote(portrait, config, among.lock)
            pool.start(among.decode)
            self._gateway.join(pool, portrait.views)

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that nobody awaits, until it is done."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _remote(self, portrait: Portrait, config: ServiceConfig, lock: Lock) -> RemotePool:
        link = _link(config, self._handles[portrait.label])
        pool = remote_pool(portrait, link, config=config, lock=lock)
        watch(self._metrics, pool)
        return pool

    async def relay(self, passed: Passed) -> Answered:
        """A gRPC call that came in at Serve's fallback proxy."""
        return await answer(self._gateway, passed)

    def __serve_build_asgi_app__(self) -> App:
        return make_app(self._gateway)


class _Pool:
    """One device with every backend that runs there, for any number of ingresses."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ServiceConfig, pool: PoolConfig
    ) -> None:
        self._config = config
        self._pool = pool
        self._sink = RaySink()
        self._metrics = Metrics(self._sink)
        self._flushing = asyncio.create_task(Flusher(self._metrics, self._sink).run())
        self._hosts = Generations(await self._host(config, NEW))

    async def reconfigure(self, changes: dict[str, Any]) -> None:
        """Serve's hook for `user_config`: the new generation beside the old until that is idle."""
        host = await self._host(changed(self._config, changes), generation_of(changes))
        self._hosts.add(host)

    async def _host(self, config: ServiceConfig, generation: str) -> PoolHost:
        local = _granted(config, [self._pool])
        site = await asyncio.to_thread(survey, local)
        assembled = await asyncio.to_thread(assemble, site, local, metrics=self._metrics)
        return PoolHost(local, assembled, zoo=site.zoo_name, generation=generation)

    async def run(self, errand: Errand) -> Done | Failed:
        return await self._hosts.run(errand)

    async def portrait(self) -> Portrait:
        return self._hosts.newest.portrait()

    async def report(self, refused_ms: float) -> Report:
        return self._hosts.newest.report(refused_ms)

    async def check_health(self) -> None:
        """Serve's hook: a replica that raises is replaced, which a device lost for good needs."""
        self._hosts.newest.check_health()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        load = self._hosts.newest.load()
        return {DEMAND: load.demand, WAIT_MS: load.wait_ms}


def build_app(config: ServiceConfig) -> serve.Application:
    """The application for `serve run` and `serve deploy`, and of `mnv4serve serve --engine ray`.

    Raises BadConfig where a node was started without the switches that make it fast or has
    another version, or the service is to speak TLS.
    """
    check_servable(config)
    check_flags(os.environ)
    if ray.is_initialized():
        check_nodes(_ask_nodes())
    apart = [pool for pool in config.pools if pool.placement == "deployment"]
    pools = {pool.label: _deployment(config, pool) for pool in apart}
    ingress = serve.deployment(serve.ingress()(_Ingress), name=INGRESS)
    return ingress.options(
        num_replicas=config.ray.ingress_replicas,
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options={
            "num_cpus": ingress_cpus(config),
            "resources": dict(config.ray.ingress_resources),
        },
        max_constructor_retry_count=ATTEMPTS,
        graceful_shutdown_timeout_s=config.drain_timeout_s,
    ).bind(config, pools)


def _ask_nodes() -> list[NodeFacts]:
    """Every node of the cluster, asked in a process there."""
    ask = ray.remote(num_cpus=0)(node_facts)
    answers = [
        ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(node["NodeManagerAddress"])
        for node in ray.nodes()
        if node["Alive"]
    ]
    return ray.get(answers, timeout=NODES_TIMEOUT_S)  # type: ignore[no-any-return]


def _deployment(config: ServiceConfig, pool: PoolConfig) -> serve.Application:
    return (
        serve.deployment(_Pool, name=f"pool-{pool.label}")
        .options(
            **replicas_of(pool),
            max_ongoing_requests=MAX_ONGOING,
            ray_actor_options={
                "num_cpus": pool.cpus or 1,
                "num_gpus": pool.gpus,
                "resources": dict(pool.resources),
            },
            max_constructor_retry_count=ATTEMPTS,
            graceful_shutdown_timeout_s=config.drain_timeout_s,
        )
        .bind(config, pool)
    )


def _link(config: ServiceConfig, handle: DeploymentHandle) -> Link:
    return Link(
        send=by_value(handle, "run"),
        probe=by_value(handle, "report"),
        probe_interval_s=config.ray.probe_interval_s,
        probe_timeout_s=config.ray.probe_timeout_s,
    )


def _granted(config: ServiceConfig, pools: Sequence[PoolConfig]) -> ServiceConfig:
    """Only these pools, on what Ray gave this replica."""
    given = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    return limited(config, pools, cores=max(1, given))
