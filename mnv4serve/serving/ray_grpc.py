"""gRPC under Ray Serve: the same messages and errors as `grpc_api`, in the form Serve calls.

Serve reads the message, hides the call's deadline and knows no interceptors; status details travel
only when a method returns, so that errors are set on the context and not raised.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from mnv4serve.domain import Call, Reply, Transport
from mnv4serve.errors import BadImage, ServeError, TooLarge
from mnv4serve.serving.health import POLL_S
from mnv4serve.serving.messages import (
    STATUS,
    frame_error,
    frontier_message,
    plan_message,
    reply_message,
    status_details,
    terms_of,
)
from mnv4serve.serving.slot import now_ms
from mnv4serve.serving.wire import GatewayLike, authorize, failure, request_id
from mnv4serve.v1 import classifier_pb2 as pb

logger = logging.getLogger(__name__)

STREAM_IN_FLIGHT = 16
SERVICES = ("", pb.DESCRIPTOR.services_by_name["Classifier"].full_name)


class Context(Protocol):
    """What Serve gives a method beside its message."""

    def invocation_metadata(self) -> Any: ...  # noqa: ANN401  # pairs or a mapping
    def set_code(self, code: grpc.StatusCode) -> None: ...
    def set_details(self, details: str) -> None: ...
    def set_trailing_metadata(self, metadata: list[tuple[str, Any]]) -> None: ...


class RayGrpc:
    """The methods of the Classifier and health services for one gateway."""

    def __init__(self, gateway: GatewayLike) -> None:
        self._gateway = gateway
        self._limits = gateway.config

    async def classify(self, request: pb.ClassifyRequest, context: Context) -> Message:
        """The reply, or an empty one with the status of the error."""
        received_ms = now_ms()
        request.request_id = request_id(request.request_id)
        try:
            self._authorize(context)
            return reply_message(await self._reply(request, received_ms))
        except ServeError as error:
            return self._failed(error, request, context, pb.ClassifyReply())
        except Exception as error:
            logger.exception("request_failed", extra={"request_id": request.request_id})
            return self._failed(failure(error), request, context, pb.ClassifyReply())

    async def plan(self, request: pb.ClassifyRequest, context: Context) -> Message:
        """The decision without running it."""
        received_ms = now_ms()
        request.request_id = request_id(request.request_id)
        try:
            self._authorize(context)
            call = self._call(request, received_ms)
            plan = self._gateway.plan(call)
            return plan_message(plan, terms=call.terms, request_id=call.request_id)
        except ServeError as error:
            return self._failed(error, request, context, pb.PlanReply())

    async def frontier(self, _: object, context: Context) -> Message:
        """The live frontier."""
        try:
            self._authorize(context)
            return frontier_message(self._gateway.zoo_name, self._gateway.frontier())
        except ServeError as error:
            return self._failed(error, pb.ClassifyRequest(), context, pb.GetFrontierReply())

    async def classify_stream(
        self, frames: AsyncIterator[pb.ClassifyStreamRequest], context: Context
    ) -> AsyncIterator[pb.ClassifyStreamReply]:
        """A reply a frame, in the order in which they are ready; errors travel in the stream."""
        try:
            self._authorize(context)
        except ServeError as error:
            self._failed(error, pb.ClassifyRequest(), context, pb.ClassifyReply())
            return
        answers: asyncio.Queue[pb.ClassifyStreamReply | None] = asyncio.Queue()
        reading = asyncio.create_task(self._read(frames, answers.put_nowait))
        try:
            while (answer := await answers.get()) is not None:
                yield answer
        finally:
            reading.cancel()

    async def check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Whether this replica is ready."""
        if request.service not in SERVICES:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("there is no such service")
            return health_pb2.HealthCheckResponse()
        return self._health()

    async def watch(
        self, request: health_pb2.HealthCheckRequest, _: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state of this replica, told at once and whenever it changes."""
        if request.service not in SERVICES:
            unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            yield health_pb2.HealthCheckResponse(status=unknown)
            return
        told = None
        while told is None or self._gateway.state != "stopped":
            current = self._health()
            if current != told:
                yield current
                told = current
            await asyncio.sleep(POLL_S)

    def _health(self) -> health_pb2.HealthCheckResponse:
        serving = self._gateway.state == "ready"
        response = health_pb2.HealthCheckResponse
        return response(status=response.SERVING if serving else response.NOT_SERVING)

    async def _read(
        self,
        frames: AsyncIterator[pb.ClassifyStreamRequest],
        put: Callable[[pb.ClassifyStreamReply | None], None],
    ) -> None:
        room = asyncio.Semaphore(STREAM_IN_FLIGHT)
        try:
            async with asyncio.TaskGroup() as group:
                async for frame in frames:
                    received_ms = now_ms()
                    await room.acquire()
                    task = group.create_task(self._frame(frame, received_ms, put))
                    task.add_done_callback(lambda _: room.release())
        finally:
            put(None)

    async def _frame(
        self,
        frame: pb.ClassifyStreamRequest,
        received_ms: float,
        put: Callable[[pb.ClassifyStreamReply | None], None],
    ) -> None:
        frame.request.request_id = request_id(frame.request.request_id)
        try:
            reply = await self._reply(frame.request, received_ms)
            answer = pb.ClassifyStreamReply(reply=reply_message(reply))
        except Exception as error:
            if not isinstance(error, ServeError):
                logger.exception("request_failed", extra={"request_id": frame.request.request_id})
            reported = frame_error(failure(error), request_id=frame.request.request_id)
            answer = pb.ClassifyStreamReply(error=reported)
        answer.frame_id = frame.frame_id
        put(answer)

    async def _reply(self, request: pb.ClassifyRequest, received_ms: float) -> Reply:
        try:
            call = self._call(request, received_ms)
        except ServeError as error:
            self._gateway.reject(Transport.GRPC, request.request_id, error)
            raise
        reply = await self._gateway.classify(call)

        def replied() -> None:
            self._gateway.replied(reply, Transport.GRPC, now_ms())

        asyncio.get_running_loop().call_soon(replied)  # the bytes leave first
        return reply

    def _call(self, request: pb.ClassifyRequest, received_ms: float) -> Call:
        limit_bytes = self._limits.max_body_bytes
        if len(request.image) > limit_bytes:
            raise TooLarge(f"the picture is larger than {limit_bytes} bytes, the configured limit")
        labels = len(self._gateway.labels)
        terms = terms_of(request, config=self._limits, n_labels=labels, remaining_ms=None)
        if not request.image:
            raise BadImage("the request holds no picture: send one as `image`")
        return Call(request.image, terms, Transport.GRPC, request.request_id, received_ms)

    def _authorize(self, context: Context) -> None:
        if self._limits.api_keys:
            metadata = dict(context.invocation_metadata() or ())
            authorize(str(metadata.get("authorization", "")), self._limits.api_keys)

    def _failed(
        self, error: ServeError, request: pb.ClassifyRequest, context: Context, empty: Message
    ) -> Message:
        details = status_details(error, request_id=request.request_id)
        context.set_code(STATUS[type(error)])
        context.set_details(str(error))
        context.set_trailing_metadata(
            [("grpc-status-details-bin", details), ("x-request-id", request.request_id)]
        )
        return empty
