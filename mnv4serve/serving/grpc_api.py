"""gRPC: messages become calls, replies and errors become messages and status codes.

Handlers read raw bytes, so that a message that cannot be parsed and a message over the limit are
refused and counted like any other bad request.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection

from mnv4serve.domain import Call, Reply, Transport
from mnv4serve.errors import (
    BadImage,
    BadParameter,
    Draining,
    Expired,
    ServeError,
    SlowBody,
    TooLarge,
)
from mnv4serve.serving.health import HEALTH_SERVICE, POLL_S, health_handlers
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

__all__ = ["SERVICE", "STATUS", "Context", "answered", "make_server", "service_handlers"]

logger = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["Classifier"].full_name
STREAM_IN_FLIGHT = 16
"""Frames of one stream that are worked on at the same time; further ones wait to be read."""
DEFECT = "request_failed"
"""Log event of an error that is none of the tree's."""
MESSAGE_MARGIN_BYTES = 64 * 1024
"""Room for the fields beside the picture. Up to twice the limit is read, so that what is refused
is told why; above, grpc ends the call with RESOURCE_EXHAUSTED."""

Context: TypeAlias = grpc.aio.ServicerContext


def make_server(gateway: GatewayLike) -> grpc.aio.Server:
    """The server with all its services, still to be bound and started."""
    limit_bytes = 2 * gateway.config.max_body_bytes + MESSAGE_MARGIN_BYTES
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second service on the same port is a mistake
        ]
    )
    services = service_handlers(gateway)
    server.add_generic_rpc_handlers(tuple(services.values()))
    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server)
    return server


def service_handlers(gateway: GatewayLike) -> dict[str, grpc.GenericRpcHandler]:
    """The services of a gateway by name, for any asynchronous server."""
    return {
        SERVICE: _handlers(_GrpcApi(gateway)),
        HEALTH_SERVICE: health_handlers(gateway, services=("", SERVICE)),
    }


def _handlers(api: "_GrpcApi") -> grpc.GenericRpcHandler:
    # Each handler reads its message itself: grpc's unary handlers start only once it is there,
    # which would leave slow and oversized messages unseen.
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Classify": grpc.stream_unary_rpc_method_handler(api.classify),
            "ClassifyStream": grpc.stream_stream_rpc_method_handler(api.classify_stream),
            "Plan": grpc.stream_unary_rpc_method_handler(api.plan),
            "GetFrontier": grpc.stream_unary_rpc_method_handler(api.frontier),
        },
    )


class _GrpcApi:
    def __init__(self, gateway: GatewayLike) -> None:
        self._gateway = gateway
        self._limits = gateway.config

    async def classify(self, _: object, context: Context) -> bytes:
        return await answered(self._classify, context)

    async def plan(self, _: object, context: Context) -> bytes:
        return await answered(self._plan, context)

    async def frontier(self, _: object, context: Context) -> bytes:
        return await answered(self._frontier, context)

    async def classify_stream(self, _: object, context: Context) -> None:
        await answered(self._classify_stream, context)

    async def _classify(self, request: pb.ClassifyRequest, context: Context) -> bytes:
        reply = await self._reply(request, self._receive(request, context))
        answer = reply_message(reply).SerializeToString()
        self._hand_over(reply)
        return bytes(answer)

    async def _plan(self, request: pb.ClassifyRequest, context: Context) -> bytes:
        call = await self._receive(request, context)
        plan = self._gateway.plan(call)
        answer = plan_message(plan, terms=call.terms, request_id=call.request_id)
        return bytes(answer.SerializeToString())

    async def _frontier(self, _: pb.ClassifyRequest, context: Context) -> bytes:
        self._authorize(context)
        answer = frontier_message(self._gateway.zoo_name, self._gateway.frontier())
        return bytes(answer.SerializeToString())

    async def _classify_stream(self, _: pb.ClassifyRequest, context: Context) -> bytes:
        self._authorize(context)
        room = asyncio.Semaphore(STREAM_IN_FLIGHT)
        writing = asyncio.Lock()
        async with asyncio.TaskGroup() as frames:
            while (message := await self._next_frame(context)) is not grpc.aio.EOF:
                received_ms = now_ms()
                await room.acquire()
                frame = frames.create_task(self._frame(message, received_ms, context, writing))
                frame.add_done_callback(lambda _: room.release())
        if self._gateway.state == "stopped":
            raise Draining("the service is shutting down")
        return b""

    async def _next_frame(self, context: Context) -> Any:  # noqa: ANN401  # bytes or grpc's EOF
        """The next message of a stream, or its end once the service takes no new work."""
        reading = asyncio.ensure_future(context.read())
        while not (await asyncio.wait({reading}, timeout=POLL_S))[0]:
            if self._gateway.state == "stopped":
                reading.cancel()
                return grpc.aio.EOF
        return reading.result()

    async def _frame(
        self, message: bytes, received_ms: float, context: Context, writing: asyncio.Lock
    ) -> None:
        frame, reply = pb.ClassifyStreamRequest(), None
        frame.request.request_id = request_id("")
        try:
            reply = await self._reply(
                frame.request, self._frame_call(frame, message, received_ms, context)
            )
            answer = pb.ClassifyStreamReply(reply=reply_message(reply))
        except ServeError as error:
            answer = pb.ClassifyStreamReply(error=_frame_error(error, frame))
        except Exception as error:
            logger.exception(DEFECT, extra={"request_id": frame.request.request_id})
            answer = pb.ClassifyStreamReply(error=_frame_error(failure(error), frame))
        answer.frame_id = frame.frame_id
        try:
            async with writing:  # grpc allows one write at a time
                await context.write(answer.SerializeToString())
        finally:
            if reply is not None:
                self._hand_over(reply)

    async def _reply(self, request: pb.ClassifyRequest, receiving: Awaitable[Call]) -> Reply:
        try:
            call = await receiving
        except BaseException as error:
            self._gateway.reject(Transport.GRPC, request.request_id, failure(error))
            raise
        return await self._gateway.classify(call)

    async def _receive(self, request: pb.ClassifyRequest, context: Context) -> Call:
        """The call in the one message of a unary method, which fills the request."""
        self._authorize(context)
        timeout_s = self._limits.read_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                message = await context.read()
        except TimeoutError:
            raise SlowBody(f"the message did not arrive within {timeout_s:g} s") from None
        received_ms = now_ms()
        if message is grpc.aio.EOF:  # grpc itself has refused it, or there was none
            limit_bytes = self._limits.max_body_bytes
            raise TooLarge(f"no message came, or one of far more than {limit_bytes} bytes")
        _parse(request, request, message)
        return self._call(request, received_ms, context)

    async def _frame_call(
        self, frame: pb.ClassifyStreamRequest, message: bytes, received_ms: float, context: Context
    ) -> Call:
        _parse(frame, frame.request, message)
        return self._call(frame.request, received_ms, context)

    def _call(self, request: pb.ClassifyRequest, received_ms: float, context: Context) -> Call:
        if len(request.image) > self._limits.max_body_bytes:
            raise self._too_large()
        remaining_s = context.time_remaining()
        if remaining_s is not None and remaining_s <= 0.0:
            raise Expired("the call's deadline has passed")
        terms = terms_of(
            request,
            config=self._limits,
            n_labels=len(self._gateway.labels),
            remaining_ms=None if remaining_s is None else remaining_s * 1000.0,
        )
        if not request.image:
            raise BadImage("the request holds no picture: send one as `image`")
        return Call(request.image, terms, Transport.GRPC, request.request_id, received_ms)

    def _too_large(self) -> TooLarge:
        limit_bytes = self._limits.max_body_bytes
        return TooLarge(f"the picture is larger than {limit_bytes} bytes, the configured limit")

    def _authorize(self, context: Context) -> None:
        if self._limits.api_keys:
            metadata = dict(context.invocation_metadata() or ())
            authorize(str(metadata.get("authorization", "")), self._limits.api_keys)

    def _hand_over(self, reply: Reply) -> None:
        def replied() -> None:
            self._gateway.replied(reply, Transport.GRPC, now_ms())

        asyncio.get_running_loop().call_soon(replied)  # the bytes leave first


async def answered(
    answer: Callable[[pb.ClassifyRequest, Context], Awaitable[bytes]], context: Context
) -> bytes:
    """What a method answers, or the call ended with the status of its error."""
    request = pb.ClassifyRequest(request_id=request_id(""))
    try:
        return await answer(request, context)
    except ServeError as error:
        reported = error
    except Exception as error:
        logger.exception(DEFECT, extra={"request_id": request.request_id})
        reported = failure(error)
    details = status_details(reported, request_id=request.request_id)
    metadata = (("grpc-status-details-bin", details), ("x-request-id", request.request_id))
    await context.abort(STATUS[type(reported)], str(reported), metadata)
    raise AssertionError("abort always raises")


def _parse(
    message: pb.ClassifyRequest | pb.ClassifyStreamRequest,
    request: pb.ClassifyRequest,
    encoded: bytes,
) -> None:
    """Fill a message; its request keeps the id it had, unless the caller gives a good one."""
    made_up = request.request_id
    try:
        message.MergeFromString(encoded)
    except DecodeError:
        raise BadParameter(
            "the message cannot be read: encode it as classifier.proto says"
        ) from None
    finally:
        request.request_id = request_id(request.request_id, otherwise=made_up)


def _frame_error(error: ServeError, frame: pb.ClassifyStreamRequest) -> pb.FrameError:
    return frame_error(error, request_id=frame.request.request_id)
