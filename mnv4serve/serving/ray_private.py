"""What is needed of Ray Serve beyond its public interface; a test fails when any of it changes.

Serve starts an HTTP and a gRPC server in each ingress replica and lets two functions of ours take
part: one returns middlewares, the other registers services. Through them requests go from those
servers straight to the gateway, as in the local engine. Serve's own way in would create two tasks
and a queue a request, take bodies piece by piece, hide a call's deadline and name each answer
twice. The same functions run in Serve's fallback proxy, which is asked while no replica is up.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import uvicorn.config
from ray.serve.handle import DeploymentHandle
from starlette.middleware import Middleware

from mnv4serve.config import ServiceConfig
from mnv4serve.serving import answers
from mnv4serve.serving.bodies import Receive
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.grpc_api import SERVICE, service_handlers
from mnv4serve.serving.http_api import App, Scope, make_app
from mnv4serve.serving.relay import Answered, Passed, Send, relaying
from mnv4serve.serving.wire import GatewayLike

SERVES_OWN = "/-/"
"""Paths that HAProxy and Kubernetes ask Serve itself."""
SEARCH_S = 2.0
"""How long the fallback proxy looks for a replica before it says that there is none."""
PROTOCOL = "mnv4serve.serving.http_protocol:WholeBodyProtocol"


NOBODY = Gateway(
    config=ServiceConfig(), zoo_name="", labels=(), observe=lambda _: None, metrics_text=None
)
"""Answers in processes that have no gateway of their own: nobody is ready there, ever."""
NOBODY.not_ready_reason = "no replica of the ingress is up"


class _Here:
    """What answers in this process."""

    def __init__(self, gateway: GatewayLike) -> None:
        self.gateway = gateway
        self.app: App = make_app(gateway)


_process = {"here": _Here(NOBODY)}


def publish(gateway: GatewayLike) -> None:
    """Let this gateway answer what reaches the servers of this process."""
    _process["here"] = _Here(gateway)


class Direct:
    """Middleware that answers here; where there is no replica, Serve may find one for a while."""

    def __init__(self, app: App, *, search_s: float = SEARCH_S) -> None:
        self._serve = app
        self._search_s = search_s

    async def __call__(self, scope: Scope, receive: Receive, send: answers.Send) -> None:
        here = _process["here"]
        if scope["type"] != "http" or scope["path"].startswith(SERVES_OWN):
            await self._serve(scope, receive, send)
        elif here.gateway is NOBODY:
            await self._elsewhere(scope, receive, send)
        else:
            await here.app(scope, receive, send)

    async def _elsewhere(self, scope: Scope, receive: Receive, send: answers.Send) -> None:
        """Serve knows replicas that HAProxy has not found well yet, as in an update."""
        started = False

        async def once_named(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = list(dict(message["headers"]).items())
            await send(message)

        try:
            async with asyncio.timeout(self._search_s) as search:
                await self._serve(scope, receive, once_named)
        except TimeoutError:
            if not search.expired() or started:
                raise
            await _process["here"].app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Serve's hook, called before a process starts its HTTP server."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = PROTOCOL
    return [Middleware(Direct)]


def add_services(_servicer: object, server: Any) -> None:  # noqa: ANN401  # Serve's subclass
    """Serve's hook, called with a gRPC server that is about to start."""
    gateway = _process["here"].gateway
    services = service_handlers(gateway)
    if gateway is NOBODY:
        services[SERVICE] = relaying(
            _to_a_replica(server), search_s=SEARCH_S, reason=NOBODY.not_ready_reason
        )
    for name, handlers in services.items():
        server.add_passthrough_service(name)
        server.add_generic_rpc_handlers((handlers,))


def _to_a_replica(server: Any) -> Send:  # noqa: ANN401  # Serve's subclass
    """Through the handle that the proxy itself would use for an application."""

    async def send(passed: Passed) -> Answered:
        router = server.service_handler_factory.__self__.proxy_router
        application = dict(passed.metadata).get("application", "")
        _, handle, _ = router.get_handle_for_endpoint(application)
        return await by_value(handle, "relay")(passed)  # type: ignore[no-any-return]

    return send


def by_value(handle: DeploymentHandle, method: str) -> Callable[..., Awaitable[Any]]:
    """A method of another deployment, called with its arguments inside the message.

    Straight from this process to the replica: neither the object store nor actor calls take part.
    """
    pickled = handle.options(
        method_name=method,
        stream=False,  # as a proxy's handles do otherwise
        _by_reference=False,
        request_serialization="pickle",
        response_serialization="pickle",
    )
    return lambda *args: _response(pickled, args)


async def _response(handle: DeploymentHandle, args: Sequence[object]) -> Any:  # noqa: ANN401
    response = handle.remote(*args)
    try:
        return await response
    except asyncio.CancelledError:  # outside of Serve's requests nobody else tells the far end
        response.cancel()
        raise
