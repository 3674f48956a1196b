"""grpc.health.v1, always telling what the gateway's state is."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from mnv4serve.serving.wire import GatewayLike

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
POLL_S = 0.2

Request: TypeAlias = health_pb2.HealthCheckRequest
Response: TypeAlias = health_pb2.HealthCheckResponse


def health_handlers(gateway: GatewayLike, *, services: Collection[str]) -> grpc.GenericRpcHandler:
    """The health service for these names; the empty one stands for the whole server."""

    def status(service: str) -> int:
        if service not in services:
            return int(Response.SERVICE_UNKNOWN)
        ready = gateway.state == "ready"
        return int(Response.SERVING if ready else Response.NOT_SERVING)

    async def check(request: Request, context: grpc.aio.ServicerContext) -> Response:
        if request.service not in services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return Response(status=status(request.service))

    async def watch(request: Request, _: grpc.aio.ServicerContext) -> AsyncIterator[Response]:
        told = None
        while told is None or gateway.state != "stopped":  # a watch must not hold up the end
            current = status(request.service)
            if current != told:
                yield Response(status=current)
                told = current
            await asyncio.sleep(POLL_S)

    codec = {
        "request_deserializer": Request.FromString,
        "response_serializer": Response.SerializeToString,
    }
    return grpc.method_handlers_generic_handler(
        HEALTH_SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(check, **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, **codec),
        },
    )
