"""The ray engine: an ingress with the router and its colocated pools, deployments for the others.

The only module with Ray Serve's deployments; what it needs of Ray beyond the public interface
stands in `ray_private`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from threading import Lock
from typing import Any

import ray
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from ray import serve
from ray.serve.handle import DeploymentHandle

from mnv4serve import __version__
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.host import survey
from mnv4serve.metrics import Metrics
from mnv4serve.serving.assemble import assemble, watch
from mnv4serve.serving.autoscaling import DEMAND, WAIT_MS
from mnv4serve.serving.cluster import INGRESS, check_flags, ingress_cpus
from mnv4serve.serving.errand import Done, Errand, Failed, Portrait, Report
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.http_api import App, make_app
from mnv4serve.serving.pool_host import PoolHost
from mnv4serve.serving.ray_grpc import Context, RayGrpc
from mnv4serve.serving.ray_metrics import Flusher, RaySink
from mnv4serve.serving.ray_private import by_value
from mnv4serve.serving.remote import Link, RemotePool, remote_pool
from mnv4serve.v1 import classifier_pb2 as pb

MAX_ONGOING = 1024
"""Far above what admission lets through, so that Serve itself never queues or refuses."""


class _Ingress:
    """Both protocols, the router and the colocated pools, in one replica."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ServiceConfig, pools: dict[str, DeploymentHandle]
    ) -> None:
        check_flags(os.environ)
        sink = RaySink()
        metrics = Metrics(sink)
        self._flusher = Flusher(metrics, sink)
        here = tuple(pool for pool in config.pools if pool.label not in pools)
        local = _granted(config, here)
        site = await asyncio.to_thread(survey, local)
        metrics.describe_build(version=__version__, zoo=site.zoo_name, engine="ray")
        self._gateway = Gateway(
            config=config,
            zoo_name=site.zoo_name,
            labels=[label.name for label in site.zoo.labels],
            observe=self._flusher.observe,
            metrics_text=None,
        )
        assembled = await asyncio.to_thread(assemble, site, local, metrics=metrics)
        portraits = [await by_value(handle, "portrait")() for handle in pools.values()]
        remotes = [
            self._remote(portrait, pools[portrait.label], config, assembled.lock)
            for portrait in portraits
        ]
        for pool in remotes:
            watch(metrics, pool)
        self._gateway.open(assembled, remotes, [view for p in portraits for view in p.views])
        self._grpc = RayGrpc(self._gateway)
        self._flushing = asyncio.create_task(self._flusher.run())

    def _remote(
        self, portrait: Portrait, handle: DeploymentHandle, config: ServiceConfig, lock: Lock
    ) -> RemotePool:
        return remote_pool(portrait, _link(config, handle), config=config, lock=lock)

    def __serve_build_asgi_app__(self) -> App:
        return make_app(self._gateway)

    async def Classify(self, request: pb.ClassifyRequest, grpc_context: Context) -> Message:
        return await self._grpc.classify(request, grpc_context)

    async def Plan(self, request: pb.ClassifyRequest, grpc_context: Context) -> Message:
        return await self._grpc.plan(request, grpc_context)

    async def GetFrontier(self, request: Message, grpc_context: Context) -> Message:
        return await self._grpc.frontier(request, grpc_context)

    async def ClassifyStream(
        self, request_stream: AsyncIterator[pb.ClassifyStreamRequest], grpc_context: Context
    ) -> AsyncIterator[pb.ClassifyStreamReply]:
        async for answer in self._grpc.classify_stream(request_stream, grpc_context):
            yield answer

    async def Check(
        self, request: health_pb2.HealthCheckRequest, grpc_context: Context
    ) -> health_pb2.HealthCheckResponse:
        return await self._grpc.check(request, grpc_context)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, grpc_context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        async for answer in self._grpc.watch(request, grpc_context):
            yield answer


class _Pool:
    """One device with every backend that runs there, for any number of ingresses."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ServiceConfig, pool: PoolConfig
    ) -> None:
        sink = RaySink()
        metrics = Metrics(sink)
        self._flusher = Flusher(metrics, sink)
        local = _granted(config, (pool,))
        site = await asyncio.to_thread(survey, local)
        assembled = await asyncio.to_thread(assemble, site, local, metrics=metrics)
        self._host = PoolHost(local, assembled)
        self._flushing = asyncio.create_task(self._flusher.run())

    async def run(self, errand: Errand) -> Done | Failed:
        return await self._host.run(errand)

    async def portrait(self) -> Portrait:
        return self._host.portrait()

    async def report(self, refused_ms: float) -> Report:
        return self._host.report(refused_ms)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        load = self._host.load()
        return {DEMAND: load.demand, WAIT_MS: load.wait_ms}


def build_app(config: ServiceConfig) -> serve.Application:
    """The application for `serve run`, `serve deploy` and `mnv4serve serve --engine ray`.

    Raises BadConfig where the cluster was started without the switches that make it fast.
    """
    check_flags(os.environ)
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
        graceful_shutdown_timeout_s=config.drain_timeout_s,
    ).bind(config, pools)


def _deployment(config: ServiceConfig, pool: PoolConfig) -> serve.Application:
    return (
        serve.deployment(_Pool, name=f"pool-{pool.label}")
        .options(
            **_scaling(pool),
            max_ongoing_requests=MAX_ONGOING,
            ray_actor_options={
                "num_cpus": pool.cpus or 1,
                "num_gpus": pool.gpus,
                "resources": dict(pool.resources),
            },
            graceful_shutdown_timeout_s=config.drain_timeout_s,
        )
        .bind(config, pool)
    )


def _scaling(pool: PoolConfig) -> dict[str, Any]:
    if pool.max_replicas is None:
        return {"num_replicas": pool.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": pool.replicas,
            "max_replicas": pool.max_replicas,
            "look_back_period_s": 5.0,
            "upscale_delay_s": 2.0,
            "downscale_delay_s": 60.0,
            "policy": {"policy_function": "mnv4serve.serving.autoscaling:scale"},
        }
    }


def _link(config: ServiceConfig, handle: DeploymentHandle) -> Link:
    return Link(
        send=by_value(handle, "run"),
        probe=by_value(handle, "report"),
        probe_interval_s=config.ray.probe_interval_s,
        probe_timeout_s=config.ray.probe_timeout_s,
    )


def _granted(config: ServiceConfig, pools: tuple[PoolConfig, ...]) -> ServiceConfig:
    """Only these pools, and no more cores than Ray gave this replica."""
    given = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)) or 1
    limited = (pool.model_copy(update={"cpus": min(pool.cpus or given, given)}) for pool in pools)
    return config.model_copy(update={"pools": tuple(limited)})
