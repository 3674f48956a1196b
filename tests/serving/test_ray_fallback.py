"""What Serve's fallback proxy answers, which HAProxy asks while it knows no replica."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc
import httpx
import pytest
from google.rpc.status_pb2 import Status

from mnv4serve.serving.answers import Send
from mnv4serve.serving.http_api import App
from mnv4serve.serving.relay import Answered, Passed, answer
from mnv4serve.v1 import classifier_pb2 as pb
from mnv4serve.v1 import classifier_pb2_grpc
from tests.fakes import FakeGateway
from tests.serving.rig import jpeg

pytest.importorskip("ray.serve", reason="the ray engine needs Ray: pip install 'mnv4serve[ray]'")
from ray.serve._private import grpc_util, proxy
from ray.serve._private.proxy_router import ProxyRouter

from mnv4serve.serving import ray_private
from mnv4serve.serving.app import _Ingress

SERVES = 299
"""The status that tells Serve's own answers in these tests."""
IMAGE = jpeg()


def client_of(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def _through_serve(**_: object) -> None:
    raise AssertionError("a method of ours was routed through Serve")


@asynccontextmanager
async def serves_grpc(
    factory: Callable[..., Any] = _through_serve,
) -> AsyncIterator[classifier_pb2_grpc.ClassifierStub]:
    """The server as Serve makes it, and a client of it."""
    server = grpc_util.gRPCGenericServer(factory)
    ray_private.add_services(None, server)
    grpc_util.enable_server_reflection(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
    finally:
        await server.stop(None)


async def test_the_fallback_proxy_leaves_the_search_to_serve() -> None:
    """Serve may know a replica that HAProxy does not; its answer is named once."""

    async def named_twice(_: object, __: object, send: Send) -> None:
        headers = [(b"x-request-id", b"one")] * 2
        await send({"type": "http.response.start", "status": SERVES, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with client_of(ray_private.Direct(named_twice)) as client:
        answer = await client.post("/classify", content=IMAGE)

    assert answer.status_code == SERVES
    assert answer.headers.get_list("x-request-id") == ["one"]


async def test_without_a_replica_http_says_unavailable() -> None:
    """When Serve finds none in time the answer is a 503 with problem details."""

    async def waits(_: object, __: object, ___: object) -> None:
        await asyncio.Event().wait()

    async with client_of(ray_private.Direct(waits, search_s=0.01)) as client:
        answer = await client.post("/classify", content=IMAGE)

    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.json()["detail"] == "not ready: no replica of the ingress is up"


async def test_without_a_replica_grpc_says_unavailable() -> None:
    """UNAVAILABLE, which clients retry, with the details of every other error."""
    async with serves_grpc() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Classify(pb.ClassifyRequest(image=IMAGE))

    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(failed.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    assert Status.FromString(details).details


async def test_the_fallback_proxy_passes_grpc_calls_to_a_replica() -> None:
    """Serve's router may know one that HAProxy does not, by the application's name."""
    asked: list[str] = []

    class Handle:
        def options(self, *, method_name: str, stream: bool, **_: object) -> Self:
            asked.append(method_name)
            assert not stream
            return self

        def remote(self, passed: Passed) -> Awaitable[Answered]:
            return answer(FakeGateway(), passed)

    class Router:
        def get_handle_for_endpoint(self, target_app_name: str) -> tuple[str, Handle, bool]:
            asked.append(target_app_name)
            return "/", Handle(), False

    serves = proxy.gRPCProxy("node", "127.0.0.1", is_head=True, proxy_router=Router())

    async with serves_grpc(serves.service_handler_factory) as stub:
        named = (("application", "mnv4serve"),)
        reply = await stub.Classify(pb.ClassifyRequest(image=IMAGE), metadata=named)

    assert reply.predictions
    assert asked == ["mnv4serve", "relay"]
    assert hasattr(_Ingress, "relay")


def test_serves_router_gives_handles_to_applications() -> None:
    """The one look-up that is needed of it."""
    taken = inspect.signature(ProxyRouter.get_handle_for_endpoint).parameters

    assert list(taken) == ["self", "target_app_name"]


async def test_what_is_asked_is_not_held_against_labels_nobody_has() -> None:
    """A good request is answered that nobody is ready, not that it is bad."""

    async def waits(_: object, __: object, ___: object) -> None:
        await asyncio.Event().wait()

    async with client_of(ray_private.Direct(waits, search_s=0.01)) as client:
        answer = await client.post("/classify?top_k=3", content=IMAGE)

    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
