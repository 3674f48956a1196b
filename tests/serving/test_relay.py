"""gRPC calls that came in where no gateway is are answered by one that is elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from mnv4serve.config import ServiceConfig
from mnv4serve.errors import BadImage
from mnv4serve.serving.relay import Answered, Passed, Send, answer, relaying
from mnv4serve.v1 import classifier_pb2 as pb
from mnv4serve.v1 import classifier_pb2_grpc
from tests.fakes import FakeGateway

PHOTO = b"\xff\xd8" + bytes(2000)
NOBODY = "nobody is up"


@asynccontextmanager
async def _stub(
    send: Send, *, search_s: float = 10.0
) -> AsyncIterator[classifier_pb2_grpc.ClassifierStub]:
    """A client of a process that passes its calls on."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((relaying(send, search_s=search_s, reason=NOBODY),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
    finally:
        await server.stop(None)


def _to(gateway: FakeGateway) -> Send:
    async def send(passed: Passed) -> Answered:
        return await answer(gateway, passed)

    return send


def _reason(error: grpc.aio.AioRpcError) -> str:
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in Status.FromString(details).details)
    return str(info.reason)


async def test_a_call_is_answered_elsewhere() -> None:
    """With the caller's own picture, request id and what is left of its deadline."""
    gateway = FakeGateway()

    async with _stub(_to(gateway)) as stub:
        request = pb.ClassifyRequest(image=PHOTO, request_id="mine", budget_ms=60_000)
        reply = await stub.Classify(request, timeout=30)

    assert reply.request_id == "mine"
    assert gateway.calls[-1].image == PHOTO
    assert 0.0 < gateway.calls[-1].terms.budget_ms < 40_000.0


async def test_every_method_with_one_message_is_answered_elsewhere() -> None:
    """Plans and the frontier, too: none of them needs this process."""
    async with _stub(_to(FakeGateway())) as stub:
        plan = await stub.Plan(pb.ClassifyRequest(image=PHOTO, request_id="mine"))
        frontier = await stub.GetFrontier(pb.GetFrontierRequest())

    assert plan.request_id == "mine"
    assert frontier.zoo == FakeGateway().zoo_name


async def test_an_error_keeps_status_and_details() -> None:
    """What the far gateway refuses reads as if it had been asked directly."""
    gateway = FakeGateway(fails=BadImage("no picture"))

    async with _stub(_to(gateway)) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Classify(pb.ClassifyRequest(image=PHOTO))

    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.value.details() == "no picture"
    assert _reason(failed.value) == "BAD_IMAGE"


async def test_keys_are_checked_by_the_far_gateway() -> None:
    """The caller's metadata travels with its call; a key too few is refused there."""
    gateway = FakeGateway(config=ServiceConfig(api_keys=("k" * 16,)))

    async with _stub(_to(gateway)) as stub:
        request = pb.ClassifyRequest(image=PHOTO)
        known = await stub.Classify(request, metadata=(("authorization", "Bearer " + "k" * 16),))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Classify(request)

    assert known.predictions
    assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def _waits(_: Passed) -> Answered:
    await asyncio.Event().wait()
    raise AssertionError


async def _breaks(_: Passed) -> Answered:
    raise ConnectionError("the replica is gone")


@pytest.mark.parametrize("send", [_waits, _breaks])
async def test_where_nobody_is_found_the_service_is_unavailable(send: Send) -> None:
    """In time, and with the details that tell a client to ask again."""
    async with _stub(send, search_s=0.05) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Classify(pb.ClassifyRequest(image=PHOTO))

    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert NOBODY in str(failed.value.details())
    assert _reason(failed.value) == "NOT_READY"


async def test_a_stream_is_not_kept_where_nobody_is() -> None:
    """It is refused as a whole, so that its caller opens another, which lands elsewhere."""

    async def frames() -> AsyncIterator[Any]:
        yield pb.ClassifyStreamRequest(frame_id=1, request=pb.ClassifyRequest(image=PHOTO))

    async with _stub(_to(FakeGateway())) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.ClassifyStream(frames()).read()

    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
