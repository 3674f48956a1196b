"""What gRPC alone promises: streams, deadlines, status details, health and reflection."""

from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import OnMiss, Reason
from mnv4serve.errors import (
    BadParameter,
    Busy,
    ServeError,
    SlowBody,
    Unauthorized,
    code,
    leaves,
)
from mnv4serve.serving.grpc_api import STATUS, STREAM_IN_FLIGHT
from mnv4serve.serving.messages import REASON, terms_of
from mnv4serve.v1 import classifier_pb2 as pb
from mnv4serve.v1.classifier_pb2_grpc import ClassifierStub
from tests.fakes import FakeGateway, error_of, eventually
from tests.servers import serving_grpc

PHOTO = b"\xff\xd8" + bytes(2000)
CLASSIFY = "/mnv4serve.v1.Classifier/Classify"


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(config=ServiceConfig(max_body_bytes=5000))


@pytest.fixture
async def channel(gateway: FakeGateway) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        serving_grpc(gateway) as address,
        grpc.aio.insecure_channel(address.removeprefix("grpc://")) as channel,
    ):
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> ClassifierStub:
    return ClassifierStub(channel)  # type: ignore[no-untyped-call]  # generated


def frame(frame_id: int, image: bytes = PHOTO, **fields: object) -> pb.ClassifyStreamRequest:
    request = pb.ClassifyRequest(image=image, **fields)  # type: ignore[arg-type]  # fields vary
    return pb.ClassifyStreamRequest(frame_id=frame_id, request=request)


async def test_a_call_without_a_message_is_told_so(
    channel: grpc.aio.Channel, gateway: FakeGateway
) -> None:
    """grpc shows the same end where it has refused a huge message, so the sentence has both."""
    call = channel.stream_unary(CLASSIFY)()
    await call.done_writing()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call

    assert caught.value.details() == "no message came, or one of far more than 5000 bytes"
    assert len(gateway.rejected) == 1


def test_every_reason_has_its_number() -> None:
    """A reason added to the router and not to the contract is noticed here."""
    assert set(REASON) == set(Reason)
    assert set(REASON.values()) == set(pb.Reason.keys()) - {"REASON_UNSPECIFIED"}


def test_every_on_miss_has_its_meaning() -> None:
    """Each number of the contract is one of the modes, and each mode has a number."""
    read = [
        terms_of(
            pb.ClassifyRequest(on_miss=pb.OnMiss.Name(number)),
            config=ServiceConfig(),
            n_labels=10,
            remaining_ms=None,
        ).on_miss
        for number in pb.OnMiss.values()
    ]

    assert set(read) == set(OnMiss)


@pytest.mark.parametrize("kind", leaves(), ids=code)
async def test_every_error_carries_details(
    gateway: FakeGateway, stub: ClassifierStub, kind: type[ServeError]
) -> None:
    """The google.rpc.Status repeats code and sentence and names class, id and hints."""
    gateway.fails = error_of(kind)

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Classify(pb.ClassifyRequest(image=PHOTO, request_id="r-1"))

    assert (raised.value.code(), raised.value.details()) == (STATUS[kind], str(gateway.fails))
    metadata = dict(raised.value.trailing_metadata())
    status = Status.FromString(metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (STATUS[kind].value[0], str(gateway.fails))
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (code(kind).upper(), "mnv4serve")
    assert info.metadata["request_id"] == metadata["x-request-id"] == "r-1"


async def test_busy_tells_when_to_come_back(gateway: FakeGateway, stub: ClassifierStub) -> None:
    """As the standard RetryInfo, which generic clients understand."""
    gateway.fails = error_of(Busy)

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Classify(pb.ClassifyRequest(image=PHOTO))

    details = dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
    info, retry = ErrorInfo(), RetryInfo()
    first, second = Status.FromString(details).details
    assert first.Unpack(info)
    assert second.Unpack(retry)
    assert info.metadata["smallest_feasible_budget_ms"] == "12.5"
    assert retry.retry_delay.ToMilliseconds() == 1500


async def test_the_deadline_caps_the_budget(gateway: FakeGateway, stub: ClassifierStub) -> None:
    """A call that ends in five seconds cannot have a budget of a minute, nor the reverse."""
    await stub.Classify(pb.ClassifyRequest(image=PHOTO, budget_ms=60_000), timeout=5)
    await stub.Classify(pb.ClassifyRequest(image=PHOTO, budget_ms=60), timeout=5)
    await stub.Classify(pb.ClassifyRequest(image=PHOTO, budget_ms=60_000))

    capped, kept, free = (call.terms.budget_ms for call in gateway.calls)
    assert 0 < capped < 5500  # on the wire a deadline is rounded up
    assert (kept, free) == (60.0, 60_000.0)


async def test_a_message_of_another_kind_is_refused(
    gateway: FakeGateway, channel: grpc.aio.Channel
) -> None:
    """Bytes that are no such message are the caller's mistake, and counted."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary(CLASSIFY)(b"\xff\xff\xff")

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [type(error) for _, _, error in gateway.rejected] == [BadParameter]


async def test_an_unknown_on_miss_is_refused(stub: ClassifierStub) -> None:
    """A number that a newer contract may know is not guessed at."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Classify(pb.ClassifyRequest(image=PHOTO, on_miss=99))  # type: ignore[arg-type]

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_that_never_comes_is_cut_off() -> None:
    """A call that is opened and then left does not stay for ever."""
    gateway = FakeGateway(config=ServiceConfig(read_timeout_s=0.05))

    async with (
        serving_grpc(gateway) as address,
        grpc.aio.insecure_channel(address.removeprefix("grpc://")) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.stream_unary(CLASSIFY)()

    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert [type(error) for _, _, error in gateway.rejected] == [SlowBody]


async def test_a_stream_answers_each_frame(gateway: FakeGateway, stub: ClassifierStub) -> None:
    """Every frame gets one answer with its own id and budget."""
    call = stub.ClassifyStream(iter([frame(7, budget_ms=5), frame(9, budget_ms=50)]))

    answers = {answer.frame_id: answer.reply.budget_ms async for answer in call}

    assert answers == {7: 5.0, 9: 50.0}
    assert len(gateway.replies) == 2


async def test_an_error_ends_its_frame_only(gateway: FakeGateway, stub: ClassifierStub) -> None:
    """The frames around a bad one are answered as if it were not there."""
    frames = [frame(1), frame(2, image=b""), frame(3, top_k=99), frame(4)]

    answers = {answer.frame_id: answer async for answer in stub.ClassifyStream(iter(frames))}

    assert [answers[i].WhichOneof("outcome") for i in (1, 2, 3, 4)] == [
        "reply",
        "error",
        "error",
        "reply",
    ]
    assert (answers[2].error.reason, answers[2].error.status_code) == ("BAD_IMAGE", 3)
    assert "top_k" in answers[3].error.message
    assert len(gateway.rejected) == 2


async def test_a_failed_frame_carries_the_hints(gateway: FakeGateway, stub: ClassifierStub) -> None:
    """What a failed call tells in its details, a failed frame tells in its fields."""
    gateway.fails = error_of(Busy)

    (answer,) = [answer async for answer in stub.ClassifyStream(iter([frame(1, request_id="r")]))]

    error = answer.error
    assert (error.smallest_feasible_budget_ms, error.retry_after_ms) == (12.5, 1500.0)
    assert (error.reason, error.status_code, error.request_id) == ("BUSY", 8, "r")


async def test_a_defect_fails_its_frame_only(gateway: FakeGateway, stub: ClassifierStub) -> None:
    """Even a defect of ours leaves the stream open, and keeps what it knows to the log."""
    gateway.fails = ZeroDivisionError("secret")

    answers = [answer async for answer in stub.ClassifyStream(iter([frame(1), frame(2)]))]

    assert [answer.error.reason for answer in answers] == ["INTERNAL"] * 2
    assert "secret" not in answers[0].error.message


async def test_frames_are_worked_on_together_up_to_a_bound(
    gateway: FakeGateway, stub: ClassifierStub
) -> None:
    """A fast sender fills the places of its stream and then waits; leaving frees them all."""
    gateway.blocks = True
    call = stub.ClassifyStream(iter([frame(i) for i in range(STREAM_IN_FLIGHT + 5)]))
    await eventually(lambda: len(gateway.calls) == STREAM_IN_FLIGHT)

    call.cancel()
    await eventually(lambda: len(gateway.cancelled) == STREAM_IN_FLIGHT)

    assert len(gateway.calls) == len(gateway.cancelled) == STREAM_IN_FLIGHT


async def test_a_stream_needs_a_key_too() -> None:
    """The key is asked for before the first frame is read."""
    gateway = FakeGateway(config=ServiceConfig(api_keys=("secret",)))

    async with (
        serving_grpc(gateway) as address,
        grpc.aio.insecure_channel(address.removeprefix("grpc://")) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.stream_stream("/mnv4serve.v1.Classifier/ClassifyStream")(iter([])).read()

    assert raised.value.code() is STATUS[Unauthorized]


async def test_health_follows_the_gateway(gateway: FakeGateway, channel: grpc.aio.Channel) -> None:
    """Watchers hear of each change, and a service that is not here is unknown."""
    health = health_pb2_grpc.HealthStub(channel)
    states = health_pb2.HealthCheckResponse
    watch = health.Watch(health_pb2.HealthCheckRequest())
    before = (await watch.read()).status

    gateway.state = "draining"
    after = (await watch.read()).status
    named = await health.Check(health_pb2.HealthCheckRequest(service="mnv4serve.v1.Classifier"))

    assert (before, after, named.status) == (
        states.SERVING,
        states.NOT_SERVING,
        states.NOT_SERVING,
    )
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await health.Check(health_pb2.HealthCheckRequest(service="other"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    watch.cancel()


async def test_reflection_lists_the_services(channel: grpc.aio.Channel) -> None:
    """Tools like grpcurl find the contract without the proto."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]

    names = {service.name for service in answer.list_services_response.service}
    assert {"mnv4serve.v1.Classifier", "grpc.health.v1.Health"} <= names


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    budget_ms=st.none() | st.floats(),
    top_k=st.none() | st.integers(0, 2**32 - 1),
    min_accuracy=st.none() | st.floats(),
    text=st.text(max_size=20),
    on_miss=st.integers(-(2**31), 2**31 - 1),
)
def test_any_message_gives_terms_or_a_bad_parameter(
    budget_ms: float | None, top_k: int | None, min_accuracy: float | None, text: str, on_miss: int
) -> None:
    """Whatever a message holds, what comes out is within bounds or refused."""
    message = pb.ClassifyRequest(
        budget_ms=budget_ms,
        top_k=top_k,
        min_accuracy=min_accuracy,
        variant=text,
        backend=text,
        on_miss=on_miss,  # type: ignore[arg-type]  # open enumerations take any number
    )

    try:
        terms = terms_of(message, config=ServiceConfig(), n_labels=10, remaining_ms=1000.0)
    except BadParameter:
        return

    assert 0 < terms.budget_ms <= 1000
    assert 1 <= terms.top_k <= 10
    assert terms.min_accuracy is None or 0 <= terms.min_accuracy <= 1
