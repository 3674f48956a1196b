"""What the ray engine relies on beyond Ray's public interface; this fails when Ray changes it."""

import asyncio
import inspect
import os
from collections.abc import (
    Generator,
    Iterator,
    MutableMapping,
)
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import uvicorn.config

from mnv4serve.config import AutoscalingConfig, PoolConfig, ServiceConfig
from mnv4serve.errors import BackendUnavailable
from mnv4serve.serving.answers import Send
from mnv4serve.serving.autoscaling import replicas_of
from mnv4serve.serving.cluster import (
    IMPLIED,
    PREFERRED,
    PROXY_PORTS,
    REQUIRED,
    SERVICER_FUNCTIONS,
    proxy_ports,
)
from mnv4serve.serving.http_protocol import WholeBodyProtocol
from mnv4serve.v1 import classifier_pb2 as pb
from tests.fakes import FakeGateway

pytest.importorskip("ray.serve", reason="the ray engine needs Ray: pip install 'mnv4serve[ray]'")
import ray
from ray.serve import config as serve_config
from ray.serve._private import constants, http_util
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve.config import AutoscalingContext
from ray.serve.handle import DeploymentHandle

from mnv4serve.serving import ray_engine, ray_private
from tests.serving.test_ray_fallback import client_of, serves_grpc

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
    return client_of(http_util._apply_middlewares(_serve, ray_private.middlewares()))


def test_serve_finds_the_hooks() -> None:
    """Both are named in settings that Serve reads, in the form that it reads."""
    path = PREFERRED["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    module, _, name = path.partition(":")
    (services,) = SERVICER_FUNCTIONS

    found = http_util.validate_http_proxy_callback_return(getattr(import_module(module), name)())

    assert [one.cls for one in found] == [ray_private.Direct]
    assert services == f"{module}.{ray_private.add_services.__name__}"


@pytest.mark.parametrize(
    "name", [name for name in REQUIRED | IMPLIED | PREFERRED if "SERVE" in name]
)
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


async def test_grpc_is_answered_without_serve(gateway: FakeGateway) -> None:
    """Methods run on the server itself, with a context that knows the deadline."""
    ray_private.publish(gateway)

    async with serves_grpc() as stub:
        reply = await stub.Classify(pb.ClassifyRequest(image=PHOTO), timeout=30)

    assert reply.predictions
    assert 0.0 < gateway.calls[-1].terms.budget_ms <= 30_000.0


def test_a_node_takes_the_port_of_its_exporter() -> None:
    """Ray reads it by a name that stands in no signature."""
    assert 'kwargs.pop("_metrics_export_port"' in inspect.getsource(ray.init)


def test_the_autoscaler_is_told_what_the_policy_reads() -> None:
    """The replicas' own reports, how many there are, and the bounds."""
    told = set(dir(AutoscalingContext)) | set(inspect.signature(AutoscalingContext).parameters)

    assert told >= {
        "aggregated_metrics",
        "current_num_replicas",
        "capacity_adjusted_min_replicas",
        "capacity_adjusted_max_replicas",
    }


# Serve compares the period with a deprecated field instead of the switch that replaces it.
@pytest.mark.filterwarnings("ignore:`look_back_period_s`:FutureWarning")
def test_the_autoscaler_makes_the_policy_that_is_configured() -> None:
    """It names a class and what to make it of, and Serve calls one instance again and again."""
    scaled = AutoscalingConfig(target_busy=0.4, target_wait_ms=7.0, downscale_delay_s=9.0)
    pool = PoolConfig(max_replicas=3, autoscaling=scaled)
    options = serve_config.AutoscalingConfig(**replicas_of(pool)["autoscaling_config"])

    policy = _resolve_policy_callable(options.policy)

    assert (policy.target_busy, policy.target_wait_ms) == (0.4, 7.0)
    assert (options.min_replicas, options.max_replicas, options.downscale_delay_s) == (1, 3, 9.0)


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
