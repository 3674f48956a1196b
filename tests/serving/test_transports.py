"""What both protocols promise alike, tried through real servers on both."""

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from mnv4serve.client import AsyncClient
from mnv4serve.client.values import PoolView, Refusal
from mnv4serve.config import ServiceConfig
from mnv4serve.domain import BackendName, OnMiss, Terms, Transport
from mnv4serve.errors import (
    BadImage,
    BadParameter,
    Busy,
    Cancelled,
    Infeasible,
    Internal,
    ServeError,
    TooLarge,
    Unauthorized,
    code,
    leaves,
)
from mnv4serve.serving import grpc_api, http_api
from tests.fakes import ARM, LABELS, PLAN, VIEWS, FakeGateway, error_of
from tests.servers import serving

PHOTO = b"\xff\xd8" + bytes(2000)
TRANSPORTS = (Transport.HTTP, Transport.GRPC)


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(config=ServiceConfig(max_body_bytes=5000))


@pytest.fixture
async def client(transport: Transport, gateway: FakeGateway) -> AsyncIterator[AsyncClient]:
    async with serving(transport, gateway) as address, AsyncClient(address) as client:
        yield client


@pytest.mark.parametrize("table", [http_api.STATUS, grpc_api.STATUS], ids=["http", "grpc"])
def test_every_error_has_a_status(table: dict[type[ServeError], object]) -> None:
    """An error class that a transport forgets is noticed here, not by a caller."""
    ours = {kind for kind in leaves() if kind.__module__ == "mnv4serve.errors"}

    assert set(table) == ours


async def test_a_reply_arrives_whole(client: AsyncClient) -> None:
    """Every field of the reply survives the wire."""
    reply = await client.classify(PHOTO, budget_ms=5, top_k=2, request_id="abc-1")

    assert [(p.label, p.index, p.probability) for p in reply.predictions] == [
        (LABELS[0], 0, 0.75),
        (LABELS[1], 1, 0.375),
    ]
    assert (reply.zoo, reply.budget_ms, reply.on_time) == ("imagenette", 5.0, True)
    assert (reply.arm.id, reply.arm.variant, reply.arm.backend) == (ARM.id, ARM.variant, "cpu")
    assert (reply.arm.precision, reply.arm.device, reply.arm.accuracy) == ("bf16", "cpu", 0.8712)
    assert reply.arm.simulated is False
    latency = reply.latency
    assert (latency.wait_ms, latency.decode_ms, latency.service_ms) == (0.5, 1.25, 1.125)
    assert (latency.total_ms, latency.predicted_ms) == (2.875, PLAN.predicted_ms)
    assert (reply.reason, reply.on_time_probability) == ("most_accurate_on_time", 0.984375)
    assert reply.request_id == "abc-1"


async def test_the_terms_reach_the_gateway(
    client: AsyncClient, gateway: FakeGateway, transport: Transport
) -> None:
    """Each parameter becomes the field of Terms that carries its name."""
    await client.classify(
        PHOTO,
        budget_ms=7.5,
        top_k=3,
        min_accuracy=0.5,
        variant="conv_small@160",
        backend="onnx",
        on_miss="refuse",
    )

    (call,) = gateway.calls
    expected = Terms(7.5, 3, 0.5, "conv_small@160", BackendName.ONNX, OnMiss.REFUSE)
    assert call.terms == expected
    assert (call.image, call.transport) == (PHOTO, transport)


async def test_what_is_left_out_gets_the_defaults(
    client: AsyncClient, gateway: FakeGateway
) -> None:
    """No parameter at all is a request on the service's usual terms."""
    await client.classify(PHOTO)

    assert gateway.calls[0].terms == Terms(budget_ms=gateway.config.default_budget_ms)


@pytest.mark.parametrize("name", ["variant", "backend"])
async def test_an_empty_name_is_the_same_as_none(
    client: AsyncClient, gateway: FakeGateway, name: str
) -> None:
    """A message cannot tell the two apart, so that a query does not either."""
    await client.classify(PHOTO, **{name: ""})  # type: ignore[arg-type]  # one name of several

    assert gateway.calls[0].terms == Terms(budget_ms=gateway.config.default_budget_ms)


async def test_top_k_defaults_to_all_of_few_labels(
    client: AsyncClient, gateway: FakeGateway
) -> None:
    """A zoo with fewer than five labels is no reason to refuse a request that names none."""
    gateway.labels = ("cat", "dog")

    reply = await client.classify(PHOTO)

    assert [p.label for p in reply.predictions] == ["cat", "dog"]


@pytest.mark.parametrize(
    "asked",
    [
        {"budget_ms": 0.0},
        {"budget_ms": -1.0},
        {"budget_ms": math.nan},
        {"budget_ms": math.inf},
        {"budget_ms": 1e9},
        {"top_k": 0},
        {"top_k": len(LABELS) + 1},
        {"min_accuracy": 1.5},
        {"min_accuracy": -0.1},
        {"min_accuracy": math.nan},
        {"variant": "v" * 1000},
        {"backend": "tpu"},
        {"on_miss": "panic"},
    ],
    ids=str,
)
async def test_bad_parameters_are_refused_and_counted(
    client: AsyncClient, gateway: FakeGateway, transport: Transport, asked: dict[str, object]
) -> None:
    """A parameter out of range never reaches the gateway's request path."""
    with pytest.raises(BadParameter, match=r"\w"):
        await client.classify(PHOTO, **asked)  # type: ignore[arg-type]  # wrong on purpose

    assert gateway.calls == []
    refused_by_client = transport is Transport.GRPC and "on_miss" in asked
    assert len(gateway.rejected) == (0 if refused_by_client else 1)


@pytest.mark.parametrize("kind", leaves(), ids=code)
async def test_every_error_comes_back_as_itself(
    transport: Transport, gateway: FakeGateway, kind: type[ServeError]
) -> None:
    """A client raises what the service raised, sentence and hints included."""
    gateway.fails = error_of(kind)

    async with (
        serving(transport, gateway) as address,
        AsyncClient(address, patience_ms=20.0) as client,
    ):
        with pytest.raises(kind) as raised:
            await client.classify(PHOTO, budget_ms=1000.0)

    assert str(raised.value) == str(gateway.fails)
    assert vars(raised.value) == vars(gateway.fails)
    assert gateway.rejected == []  # the gateway itself has counted it


async def test_a_defect_is_reported_as_internal_without_its_message(
    client: AsyncClient, gateway: FakeGateway
) -> None:
    """What broke is for the log; the caller learns only that something did."""
    gateway.fails = ZeroDivisionError("secret")

    with pytest.raises(Internal) as raised:
        await client.classify(PHOTO)

    assert "secret" not in str(raised.value)


async def test_an_empty_request_holds_no_picture(client: AsyncClient, gateway: FakeGateway) -> None:
    """Nothing at all is refused as an unreadable image and counted once."""
    with pytest.raises(BadImage):
        await client.classify(b"")

    assert [type(error) for _, _, error in gateway.rejected] == [BadImage]


@pytest.mark.parametrize("n_bytes", [5001, 9000, 100_000])
async def test_too_large_a_picture_is_refused_and_counted(
    client: AsyncClient, gateway: FakeGateway, n_bytes: int
) -> None:
    """The limit holds on the byte, and far above it too."""
    with pytest.raises(TooLarge):
        await client.classify(bytes(n_bytes))

    assert [type(error) for _, _, error in gateway.rejected] == [TooLarge]
    assert gateway.calls == []


async def test_the_limit_itself_is_allowed(client: AsyncClient, gateway: FakeGateway) -> None:
    """A picture of exactly `max_body_bytes` is served."""
    await client.classify(bytes(gateway.config.max_body_bytes))

    assert len(gateway.calls) == 1


async def test_a_reply_is_reported_once_when_handed_over(
    client: AsyncClient, gateway: FakeGateway, transport: Transport
) -> None:
    """The gateway learns the real cost of the reply from the time it was handed over."""
    await client.classify(PHOTO)
    await gateway.finished.wait()

    ((reply, by, handed_over_ms),) = gateway.replies
    assert by is transport
    assert handed_over_ms >= reply.received_ms > 0


async def test_a_caller_who_leaves_frees_the_slot(
    client: AsyncClient, gateway: FakeGateway
) -> None:
    """Closing the connection or cancelling the call cancels the work."""
    gateway.blocks = True
    asking = asyncio.create_task(client.classify(PHOTO, request_id="leaver"))
    await gateway.started.wait()

    asking.cancel()
    await gateway.finished.wait()

    assert gateway.cancelled == ["leaver"]
    assert gateway.replies == []
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await asking


async def test_requests_run_at_the_same_time(client: AsyncClient, gateway: FakeGateway) -> None:
    """One request in flight does not hold up another."""
    gateway.blocks = True
    first = asyncio.create_task(client.classify(PHOTO))
    await gateway.started.wait()
    gateway.blocks = False

    reply = await client.classify(PHOTO)

    assert reply.on_time
    first.cancel()
    await gateway.finished.wait()


async def test_a_plan_arrives_whole(client: AsyncClient, gateway: FakeGateway) -> None:
    """Planning takes the same inputs, runs nothing and counts as no request."""
    plan = await client.plan(PHOTO, budget_ms=5, request_id="p1")

    parts = (plan.wait_ms, plan.decode_ms, plan.service_ms, plan.hop_ms, plan.reply_ms)
    assert parts == (PLAN.wait_ms, PLAN.decode_ms, PLAN.service_ms, PLAN.hop_ms, PLAN.reply_ms)
    assert (plan.predicted_ms, plan.budget_ms) == (PLAN.predicted_ms, 5.0)
    assert (plan.arm.id, plan.reason, plan.request_id) == (ARM.id, "most_accurate_on_time", "p1")
    assert plan.on_time_probability == PLAN.on_time_probability
    assert gateway.replies == []


@pytest.mark.parametrize("kind", [Infeasible, Busy])
async def test_a_plan_fails_like_a_request(
    client: AsyncClient, gateway: FakeGateway, kind: type[ServeError]
) -> None:
    """Planning tells the smallest feasible budget just as classifying does."""
    gateway.fails = error_of(kind)

    with pytest.raises(kind) as raised:
        await client.plan(PHOTO, budget_ms=5)

    assert vars(raised.value) == vars(gateway.fails)


async def test_the_frontier_arrives_whole(client: AsyncClient) -> None:
    """Unknown accuracy and latency stay unknown, they do not turn into zero."""
    frontier = await client.frontier()

    assert frontier.zoo == "imagenette"
    assert [view.arm.id for view in frontier.arms] == [view.arm.id for view in VIEWS]
    certified, uncertified = frontier.arms
    assert (certified.p50_ms, certified.p99_ms, certified.expected_ms) == (1.125, 1.5, 3.25)
    assert (certified.resident, certified.on_frontier) == (True, True)
    assert (uncertified.p99_ms, uncertified.expected_ms) == (None, None)
    assert (uncertified.arm.accuracy, uncertified.arm.simulated) == (None, True)
    assert (certified.traffic_share, certified.on_time_share) == (1.0, 0.875)
    assert (uncertified.traffic_share, uncertified.on_time_share) == (0.0, None)


async def test_pools_and_recent_traffic_arrive_whole(client: AsyncClient) -> None:
    """Whoever watches sees the same over both protocols."""
    frontier = await client.frontier()

    recent = frontier.recent
    assert frontier.pools == (PoolView("cpu", 2, 1, 3, 1.25),)
    assert (recent.requests, recent.span_ms) == (8, 1500.0)
    assert (recent.on_time_share, recent.p50_ms, recent.p99_ms) == (0.75, 3.5, 9.25)
    assert recent.refusals == (Refusal(250.0, "refused", "busy", "grpc", 5.0),)


@pytest.mark.parametrize("given", ["", "two words", "x" * 129])
async def test_a_malformed_request_id_is_replaced(client: AsyncClient, given: str) -> None:
    """An id that could break a log line or a header is never taken over."""
    reply = await client.classify(PHOTO, request_id=given)

    assert reply.request_id != given
    assert len(reply.request_id) == 16


@pytest.mark.parametrize("key", [None, "wrong", "key-on", "key-one-more"])
async def test_a_wrong_key_is_refused_and_counted(transport: Transport, key: str | None) -> None:
    """Where keys are configured, every call needs one of them."""
    gateway = FakeGateway(config=ServiceConfig(api_keys=("key-one", "key-two")))

    async with (
        serving(transport, gateway) as address,
        AsyncClient(address, api_key=key) as client,
    ):
        for asking in (client.classify(PHOTO), client.plan(PHOTO), client.frontier()):
            with pytest.raises(Unauthorized):
                await asking

    assert [type(error) for _, _, error in gateway.rejected] == [Unauthorized]


@pytest.mark.parametrize("key", ["key-one", "key-two"])
async def test_a_right_key_is_accepted(transport: Transport, key: str) -> None:
    """Any one of the configured keys opens the door."""
    gateway = FakeGateway(config=ServiceConfig(api_keys=("key-one", "key-two")))

    async with (
        serving(transport, gateway) as address,
        AsyncClient(address, api_key=key) as client,
    ):
        await client.classify(PHOTO)
        await client.plan(PHOTO)
        await client.frontier()

    assert len(gateway.replies) == 1
