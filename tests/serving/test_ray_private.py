"""What the ray engine relies on beyond Ray's public interface; this fails when Ray changes it."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Generator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import grpc
import httpx
import pytest
import uvicorn.config
from google.rpc.status_pb2 import Status

from mnv4serve.config import ServiceConfig
from mnv4serve.errors import BackendUnavailable
from mnv4serve.serving.answers import Send
from mnv4serve.serving.cluster import (
    PREFERRED,
    PROXY_PORTS,
    REQUIRED,
    SERVICER_FUNCTIONS,
    proxy_ports,
)
from mnv4serve.serving.http_api import App
from mnv4serve.serving.http_protocol import WholeBodyProtocol
from mnv4serve.v1 import classifier_pb2 as pb
from mnv4serve.v1 import classifier_pb2_grpc
from tests.fakes import FakeGateway

pytest.importorskip("ray.serve", reason="the ray engine needs Ray: pip install 'mnv4serve[ray]'")
from ray.serve._private import constants, grpc_util, http_util
from ray.serve.handle import DeploymentHandle

from mnv4serve.serving import ray_engine, ray_private

PHOTO = b"\xff\xd8" + bytes(2000)
SERVES = 299
"""The status that tells Serve's own answers in these tests."""


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """The hooks change their process, which here is the test's."""
    before = uvicorn.config.HTTP_PROTOCOLS["auto"]
    yield
    uvicorn.config.HTTP_PROTOCOLS["auto"] = before
    ray_private.publish(ray_private.NOBODY)


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(config=ServiceConfig(max_body_bytes=5000))


async def _serve(_scope: MutableMapping[str, Any], _receive: object, send: Send) -> None:
    await send({"type": "http.response.start", "status": SERVES, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _http() -> httpx.AsyncClient:
    """The application as Serve puts it together."""
    return _client(http_util._apply_middlewares(_serve, ray_private.middlewares()))


def _client(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@asynccontextmanager
async def _grpc() -> AsyncIterator[classifier_pb2_grpc.ClassifierStub]:
    """The server as Serve makes it, and a client of it."""

    def through_serve(**_: object) -> None:
        raise AssertionError("a method of ours was routed through Serve")

    server = grpc_util.gRPCGenericServer(through_serve)
    ray_private.add_services(None, server)
    grpc_util.enable_server_reflection(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
    finally:
        await server.stop(None)


def test_serve_finds_the_hooks() -> None:
    """Both are named in settings that Serve reads, in the form that it reads."""
    path = PREFERRED["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    module, _, name = path.partition(":")
    (services,) = SERVICER_FUNCTIONS

    found = http_util.validate_http_proxy_callback_return(getattr(import_module(module), name)())

    assert [one.cls for one in found] == [ray_private.Direct]
    assert services == f"{module}.{ray_private.add_services.__name__}"


@pytest.mark.parametrize("name", [name for name in REQUIRED | PREFERRED if "SERVE" in name])
def test_serve_reads_the_switch(name: str) -> None:
    """A switch that Serve has renamed would do nothing."""
    assert f'"{name}"' in Path(constants.__file__).read_text(encoding="utf-8")


def test_the_proxy_listens_where_it_is_looked_for() -> None:
    """Ports that Serve has moved would be asked for in vain."""
    listening = {name: getattr(constants, name) for name in PROXY_PORTS}

    assert listening == proxy_ports(os.environ)


def test_serves_http_server_takes_bodies_whole() -> None:
    """Serve leaves the choice of protocol to uvicorn, which looks it up by name."""
    ray_private.middlewares()
    config = uvicorn.Config(_serve, log_level=None, log_config=None)

    config.load()

    assert config.http_protocol_class is WholeBodyProtocol
    assert "http=" not in inspect.getsource(http_util.start_asgi_http_server)


async def test_http_is_answered_without_serve_and_named_once(gateway: FakeGateway) -> None:
    """Requests end at the gateway; the request id stands in the answer once."""
    ray_private.publish(gateway)

    async with _http() as client:
        answer = await client.post("/classify", content=PHOTO, headers={"x-request-id": "mine"})

    assert answer.status_code == httpx.codes.OK
    assert answer.headers.get_list("x-request-id") == ["mine"]


async def test_serves_own_paths_stay_serves(gateway: FakeGateway) -> None:
    """HAProxy and Kubernetes ask Serve whether the replica is well."""
    ray_private.publish(gateway)

    async with _http() as client:
        answer = await client.get("/-/healthz")

    assert answer.status_code == SERVES


async def test_the_fallback_proxy_leaves_the_search_to_serve() -> None:
    """Serve may know a replica that HAProxy does not; its answer is named once."""

    async def named_twice(_: object, __: object, send: Send) -> None:
        headers = [(b"x-request-id", b"one")] * 2
        await send({"type": "http.response.start", "status": SERVES, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with _client(ray_private.Direct(named_twice)) as client:
        answer = await client.post("/classify", content=PHOTO)

    assert answer.status_code == SERVES
    assert answer.headers.get_list("x-request-id") == ["one"]


async def test_without_a_replica_http_says_unavailable() -> None:
    """When Serve finds none in time the answer is a 503 with problem details."""

    async def waits(_: object, __: object, ___: object) -> None:
        await asyncio.Event().wait()

    async with _client(ray_private.Direct(waits, search_s=0.01)) as client:
        answer = await client.post("/classify", content=PHOTO)

    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.json()["detail"] == "not ready: no replica of the ingress is up"


async def test_grpc_is_answered_without_serve(gateway: FakeGateway) -> None:
    """Methods run on the server itself, with a context that knows the deadline."""
    ray_private.publish(gateway)

    async with _grpc() as stub:
        reply = await stub.Classify(pb.ClassifyRequest(image=PHOTO), timeout=30)

    assert reply.predictions
    assert 0.0 < gateway.calls[-1].terms.budget_ms <= 30_000.0


async def test_without_a_replica_grpc_says_unavailable() -> None:
    """UNAVAILABLE, which clients retry, with the details of every other error."""
    async with _grpc() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Classify(pb.ClassifyRequest(image=PHOTO))

    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(failed.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    assert Status.FromString(details).details


def test_handles_take_their_private_options() -> None:
    """By value is an option without a public name."""
    taken = inspect.signature(DeploymentHandle.options).parameters

    assert {"method_name", "_by_reference", "request_serialization"} <= set(taken)


async def test_a_cancelled_call_is_cancelled_at_the_far_end() -> None:
    """Nobody waits for it: its slot should not work for it."""
    response = _Response()

    sending = asyncio.ensure_future(ray_private.by_value(_Handle(response), "run")("errand"))
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait({sending})

    assert response.cancelled


class _Response:
    """What a call of a handle returns: awaited, and cancelled only by its own method."""

    def __init__(self) -> None:
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.Event().wait().__await__()

    def cancel(self) -> None:
        self.cancelled = True


class _Handle:
    """A handle whose calls return what the test gave it."""

    def __init__(self, response: _Response) -> None:
        self._response = response

    def options(self, **_: object) -> Self:
        return self

    def remote(self, *_: object) -> _Response:
        return self._response


def test_a_proxy_that_does_not_start_is_one_sentence() -> None:
    """What Serve reports of it is a traceback in a traceback; its last line says why."""

    class FakeServe:
        def start(self, *_: object, **__: object) -> None:
            raise RuntimeError("ray::ProxyActor.ready()\n  File ...\nRuntimeError: no way to bind.")

    with pytest.raises(BackendUnavailable, match=r"did not start: RuntimeError: no way to bind\.$"):
        ray_engine._run(FakeServe(), ServiceConfig())
