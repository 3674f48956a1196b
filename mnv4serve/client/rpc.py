"""A client's requests over gRPC."""

from typing import Any, TypeVar

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from mnv4serve.client.failures import Unreachable, rebuilt
from mnv4serve.client.messages import request_message
from mnv4serve.client.operations import Request
from mnv4serve.errors import Expired, Internal, MnvError, TooLarge

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

DETAILS = "grpc-status-details-bin"


class GrpcSender:
    """Sends requests over one channel."""

    def __init__(self, target: str, *, secure: bool, metadata: Metadata) -> None:
        self._metadata = metadata
        if secure:
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials())
        else:
            self._channel = grpc.insecure_channel(target)

    def send(self, request: Request[T]) -> T:
        call = self._channel.unary_unary(request.operation.rpc)
        try:
            answer = call(_encoded(request), timeout=request.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _failed(error) from error
        return _read(request, answer)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcSender:
    """The same on an event loop."""

    def __init__(self, target: str, *, secure: bool, metadata: Metadata) -> None:
        self._metadata = metadata
        if secure:
            self._channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials())
        else:
            self._channel = grpc.aio.insecure_channel(target)

    async def send(self, request: Request[T]) -> T:
        call = self._channel.unary_unary(request.operation.rpc)
        try:
            answer = await call(
                _encoded(request), timeout=request.timeout_s, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from error
        return _read(request, answer)

    async def close(self) -> None:
        await self._channel.close()


def _encoded(request: Request[T]) -> bytes:
    return bytes(request_message(request.image, request.asked).SerializeToString())


def _read(request: Request[T], answer: bytes) -> T:
    return request.operation.from_message(request.operation.decode(answer))


def _failed(error: Any) -> MnvError:  # noqa: ANN401  grpc's sync errors have no type with `code`
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS:
            return _rebuilt(Status.FromString(value))
    message = str(error.details())
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Expired("no answer came within the budget and the client's patience")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TooLarge(message)  # grpc's own limit; the service's errors have details
        case grpc.StatusCode.CANCELLED:  # not by the caller: that ends the wait without an answer
            return Unreachable(f"the call was cut off: {message}", sent=True)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.UNIMPLEMENTED:
            sent = not message.startswith("failed to connect")
            return Unreachable(f"nothing answers: {message}", sent=sent)
        case _:
            return Internal(message)


def _rebuilt(status: Status) -> MnvError:
    info, retry, hints = ErrorInfo(), RetryInfo(), {}
    for detail in status.details:
        if detail.Unpack(retry):
            hints["retry_after_ms"] = retry.retry_delay.ToMicroseconds() / 1000.0
        detail.Unpack(info)
    name = "smallest_feasible_budget_ms"
    if name in info.metadata:
        hints[name] = float(info.metadata[name])
    return rebuilt(info.reason.lower(), status.message, hints)
