"""The client: what it sends, when it tries again, how it fails."""

import asyncio
import math
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest

from mnv4serve.client import PATIENCE_MS, AsyncClient, Client, Unreachable
from mnv4serve.client.failures import MAX_ATTEMPTS, pause_before_retry_ms, rebuilt
from mnv4serve.domain import Transport
from mnv4serve.errors import (
    BadImage,
    BadParameter,
    Busy,
    Draining,
    Expired,
    Internal,
    MnvError,
    NotReady,
    ServeError,
    Shed,
)
from mnv4serve.v1 import classifier_pb2
from tests.fakes import ARM, FakeGateway, error_of
from tests.servers import cabled, serving

PHOTO = b"\xff\xd8" + bytes(2000)
BOTH = pytest.mark.parametrize("transport", [Transport.HTTP, Transport.GRPC])


@pytest.fixture(params=[Transport.HTTP, Transport.GRPC])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A service in a thread of its own, as a blocking client needs it."""
    ready, addresses, stop = threading.Event(), [], asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with serving(request.param, FakeGateway()) as address:
            addresses.append(address)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    yield addresses[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_the_blocking_client_does_what_the_other_does(address: str) -> None:
    """Replies, plans and the frontier, over connections that are kept."""
    with Client(address) as client:
        reply = client.classify(PHOTO, budget_ms=5)
        plan = client.plan(PHOTO, budget_ms=5)
        frontier = client.frontier()

    assert reply.arm.id == plan.arm.id == frontier.arms[0].arm.id == ARM.id


def test_the_blocking_client_raises_the_services_errors(address: str) -> None:
    """The class and the sentence are the service's."""
    with Client(address) as client, pytest.raises(BadImage, match="no picture"):
        client.classify(b"")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_an_address_where_nobody_listens_is_unreachable(scheme: str) -> None:
    """After a few attempts, as the service may be about to start."""
    address = f"{scheme}://127.0.0.1:{free_port()}"

    with Client(address, patience_ms=100) as client, pytest.raises(Unreachable) as raised:
        client.classify(PHOTO, budget_ms=5)

    assert raised.value.sent is False


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8000", "ftp://host", "", "grpc://", "http://:80", "http://host:x", "http://[::1"],
)
def test_an_address_of_no_known_kind_is_refused(address: str) -> None:
    """The mistake is told with an example of the right form, before anything is sent."""
    with pytest.raises(BadParameter, match="grpc://"):
        Client(address)


@BOTH
async def test_a_service_that_is_starting_is_asked_again(transport: Transport) -> None:
    """The caller sees the answer, not the start-up."""
    gateway = FakeGateway(fails=NotReady("loading"), failures_left=2)

    async with serving(transport, gateway) as address, AsyncClient(address) as client:
        reply = await client.classify(PHOTO, budget_ms=5)

    assert reply.arm.id == ARM.id
    assert len(gateway.calls) == 3


@BOTH
async def test_an_error_that_stays_is_raised_at_once(transport: Transport) -> None:
    """Asking again would not help."""
    gateway = FakeGateway(fails=Shed("given up"))

    async with serving(transport, gateway) as address, AsyncClient(address) as client:
        with pytest.raises(Shed):
            await client.classify(PHOTO, budget_ms=1000)

    assert len(gateway.calls) == 1


@BOTH
async def test_a_request_whose_connection_broke_is_sent_once_more(transport: Transport) -> None:
    """A replica that goes away under a request costs the caller time, not the answer."""
    gateway = FakeGateway(blocks=True)

    async with (
        serving(transport, gateway) as address,
        cabled(address) as cable,
        AsyncClient(cable.address) as client,
    ):
        asking = asyncio.create_task(client.classify(PHOTO, budget_ms=10_000))
        await gateway.started.wait()
        gateway.blocks = False
        cable.cut()
        reply = await asking

    assert reply.arm.id == ARM.id
    assert len(gateway.calls) == 2


async def test_a_call_that_a_proxy_cuts_off_is_sent_once_more() -> None:
    """A proxy that loses a replica ends the calls there as cancelled, which nobody asked for."""
    messages: list[bytes] = []

    async def classify(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        messages.append(message)
        await context.abort(grpc.StatusCode.CANCELLED, "")
        raise AssertionError("abort always raises")

    server = grpc.aio.server()
    handlers = {"Classify": grpc.unary_unary_rpc_method_handler(classify)}
    service = classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async with AsyncClient(f"grpc://127.0.0.1:{port}") as client:
        with pytest.raises(Unreachable, match="cut off"):
            await client.classify(PHOTO, budget_ms=10_000)
    await server.stop(None)

    assert len(messages) == 2


@BOTH
async def test_a_connection_that_breaks_twice_is_an_error(transport: Transport) -> None:
    """A request that kills whoever takes it is not sent on and on."""
    gateway = FakeGateway(blocks=True)

    async with (
        serving(transport, gateway) as address,
        cabled(address) as cable,
        AsyncClient(cable.address) as client,
    ):
        asking = asyncio.create_task(client.classify(PHOTO, budget_ms=10_000))
        for _ in range(2):
            await gateway.started.wait()
            gateway.started.clear()
            cable.cut()
        with pytest.raises(Unreachable) as raised:
            await asking

    assert raised.value.sent
    assert len(gateway.calls) == 2


@BOTH
async def test_a_service_that_hangs_is_given_up(transport: Transport) -> None:
    """Budget and patience together bound the wait, and the work is cancelled there."""
    gateway = FakeGateway(blocks=True)

    async with serving(transport, gateway) as address:
        async with AsyncClient(address, patience_ms=50) as client:
            with pytest.raises(Expired):
                await client.classify(PHOTO, budget_ms=5)
        await gateway.finished.wait()

    assert len(gateway.calls) == 1


@BOTH
@pytest.mark.parametrize("budget_ms", [math.nan, math.inf, -5.0])
async def test_an_impossible_budget_is_the_services_to_refuse(
    transport: Transport, budget_ms: float
) -> None:
    """The client does not trip over it on its own."""
    async with serving(transport, FakeGateway()) as address, AsyncClient(address) as client:
        with pytest.raises(BadParameter):
            await client.classify(PHOTO, budget_ms=budget_ms)


async def test_what_is_no_mnv4serve_is_unreachable() -> None:
    """Another server's page is not mistaken for an answer."""

    async def page(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/html\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with server, AsyncClient(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(Unreachable, match="no mnv4serve") as raised:
            await client.frontier()

    assert raised.value.sent


@pytest.mark.parametrize(
    ("error", "attempt", "spent_ms", "expected_ms"),
    [
        (NotReady(""), 1, 0.0, 50.0),
        (NotReady(""), 2, 60.0, 100.0),
        (Draining(""), 3, 0.0, 200.0),
        (Draining(""), MAX_ATTEMPTS, 0.0, None),
        (NotReady(""), 1, 990.0, None),
        (Unreachable("", sent=False), 1, 0.0, 50.0),
        (Unreachable("", sent=True), 1, 90.0, 0.0),
        (Unreachable("", sent=True), 1, 110.0, None),
        (Unreachable("", sent=True), 2, 0.0, None),
        (Busy("", smallest_feasible_budget_ms=1, retry_after_ms=30), 1, 0.0, 30.0),
        (Busy("", smallest_feasible_budget_ms=1, retry_after_ms=30), 1, 80.0, None),
        (Busy("", smallest_feasible_budget_ms=1, retry_after_ms=math.nan), 1, 0.0, None),
        (Shed(""), 1, 0.0, None),
        (Expired(""), 1, 0.0, None),
        (Internal(""), 1, 0.0, None),
    ],
)
def test_trying_again_only_where_it_can_help(
    error: MnvError, attempt: int, spent_ms: float, expected_ms: float | None
) -> None:
    """Busy or broken within the budget, not-there-yet within the patience, nothing else."""
    pause_ms = pause_before_retry_ms(
        error, attempt=attempt, spent_ms=spent_ms, budget_ms=100.0, patience_ms=1000.0
    )

    assert pause_ms == expected_ms


def test_the_usual_patience_is_used_up() -> None:
    """A service that is not there yet is not given up long before the caller would."""
    waited_ms = 0.0
    for attempt in range(1, MAX_ATTEMPTS):
        pause_ms = pause_before_retry_ms(
            NotReady(""),
            attempt=attempt,
            spent_ms=waited_ms,
            budget_ms=5.0,
            patience_ms=PATIENCE_MS,
        )
        assert pause_ms is not None
        waited_ms += pause_ms

    assert 0.75 * PATIENCE_MS < waited_ms < PATIENCE_MS


def test_without_a_budget_of_ones_own_patience_counts() -> None:
    """The service's default budget is not known here."""
    broken = Unreachable("", sent=True)

    pause_ms = pause_before_retry_ms(
        broken, attempt=1, spent_ms=500.0, budget_ms=0.0, patience_ms=1000.0
    )

    assert pause_ms == 0.0


def test_an_error_of_a_newer_service_is_internal() -> None:
    """A class that this client does not know is still an error with its sentence."""
    error = rebuilt("melted", "the core has melted", {})

    assert (type(error), str(error)) == (Internal, "the core has melted")


@pytest.mark.parametrize("kind", [Busy, Shed])
def test_hints_are_optional(kind: type[ServeError]) -> None:
    """A proxy may have answered without them."""
    error = rebuilt(kind.__name__.lower(), str(error_of(kind)), {})

    assert type(error) is kind
