"""gRPC calls that reach a process without a gateway, passed on to one that has it.

Where a proxy knows no replica yet but the cluster does, as in an update, callers over gRPC are
answered like those over HTTP, one hop later, instead of being sent away.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import grpc

from mnv4serve.errors import NotReady
from mnv4serve.serving.grpc_api import SERVICE, Context, answered, service_handlers
from mnv4serve.serving.wire import GatewayLike

logger = logging.getLogger(__name__)

Metadata = tuple[tuple[str, str | bytes], ...]

UNARY = ("Classify", "Plan", "GetFrontier")


@dataclass(frozen=True, slots=True)
class Passed:
    """A call with one message, as it came in."""

    method: str
    message: bytes
    metadata: Metadata
    remaining_s: float | None


@dataclass(frozen=True, slots=True)
class Answered:
    """What the call ends with: a message, or the name of another status than OK."""

    message: bytes = b""
    status: str = grpc.StatusCode.OK.name
    details: str = ""
    metadata: Metadata = ()


Send = Callable[[Passed], Awaitable[Answered]]
"""The way to a process with a gateway; raises whatever its transport raises."""


async def answer(gateway: GatewayLike, passed: Passed) -> Answered:
    """What the gateway of this process answers to a call that came in elsewhere."""
    found = service_handlers(gateway)[SERVICE].service(_Details(f"/{SERVICE}/{passed.method}", ()))
    assert found is not None
    try:
        return Answered(await found.stream_unary(None, _Standing(passed)))
    except _EndedError as ended:
        return ended.answered


def relaying(send: Send, *, search_s: float, reason: str) -> grpc.GenericRpcHandler:
    """The service in a process without a gateway.

    Who cannot be passed on within `search_s` is told that the service is not ready, for this
    reason; so are streams at once, which would stay here for as long as they are open.
    """

    async def nobody(*_: object) -> bytes:
        raise NotReady(f"not ready: {reason}")

    def unary(method: str) -> Callable[[object, Context], Awaitable[bytes]]:
        async def relayed(_: object, context: Context) -> bytes:
            try:
                async with asyncio.timeout(search_s):
                    there = await send(await _passed(method, context))
            except TimeoutError:
                return await answered(nobody, context)
            except Exception as error:  # whatever the transport raises
                logger.warning("relay_failed", exc_info=error)
                return await answered(nobody, context)
            if there.status != grpc.StatusCode.OK.name:
                await context.abort(grpc.StatusCode[there.status], there.details, there.metadata)
            return there.message

        return relayed

    async def stream(_: object, context: Context) -> None:
        await answered(nobody, context)

    handlers = {name: grpc.stream_unary_rpc_method_handler(unary(name)) for name in UNARY}
    handlers["ClassifyStream"] = grpc.stream_stream_rpc_method_handler(stream)
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


async def _passed(method: str, context: Context) -> Passed:
    message = await context.read()
    return Passed(
        method=method,
        message=b"" if message is grpc.aio.EOF else message,
        metadata=tuple((name, value) for name, value in context.invocation_metadata() or ()),
        remaining_s=context.time_remaining(),
    )


class _Details(NamedTuple):
    """Which handler is looked for."""

    method: str
    invocation_metadata: Metadata


class _EndedError(Exception):
    """A method has ended its call with a status."""

    def __init__(self, answered: Answered) -> None:
        super().__init__(answered.details)
        self.answered = answered


class _Standing:
    """Stands in for the context of a call whose connection is elsewhere."""

    def __init__(self, passed: Passed) -> None:
        self._passed = passed
        self._started_s = time.monotonic()

    async def read(self) -> bytes:
        return self._passed.message

    def invocation_metadata(self) -> Metadata:
        return self._passed.metadata

    def time_remaining(self) -> float | None:
        left_s = self._passed.remaining_s
        return None if left_s is None else left_s - (time.monotonic() - self._started_s)

    async def abort(self, code: Any, details: str, metadata: Metadata) -> NoReturn:  # noqa: ANN401
        raise _EndedError(Answered(b"", code.name, details, metadata))
