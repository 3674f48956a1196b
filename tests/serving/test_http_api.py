"""What HTTP alone promises: bodies, headers, problem details, pages and the OpenAPI document."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import OnMiss, Transport
from mnv4serve.errors import (
    Cancelled,
    Draining,
    NotReady,
    ServeError,
    SlowBody,
    TooLarge,
    code,
    leaves,
)
from mnv4serve.serving.http_api import STATUS, make_app
from tests.fakes import FakeGateway, error_of
from tests.servers import serving_http

PHOTO = b"\xff\xd8" + bytes(2000)


def asgi_client(gateway: FakeGateway) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(gateway))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(config=ServiceConfig(max_body_bytes=5000))


@pytest.fixture
async def http(gateway: FakeGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with asgi_client(gateway) as client:
        yield client


async def test_the_reply_has_exactly_the_promised_fields(http: httpx.AsyncClient) -> None:
    """Callers may rely on each field's name and form."""
    response = await http.post("/classify?budget_ms=5&top_k=1", content=PHOTO)

    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert response.json() | {"request_id": "r"} == {
        "predictions": [{"label": "tench", "index": 0, "probability": 0.75}],
        "zoo": "imagenette",
        "arm": "conv_small@224/cpu/bf16/cpu",
        "variant": "conv_small@224",
        "backend": "cpu",
        "precision": "bf16",
        "device": "cpu",
        "accuracy": 0.8712,
        "budget_ms": 5.0,
        "on_time": True,
        "latency_ms": {
            "total": 2.875,
            "wait": 0.5,
            "decode": 1.25,
            "service": 1.125,
            "predicted": 3.25,
        },
        "plan": {"reason": "most_accurate_on_time", "on_time_probability": 0.984375},
        "request_id": "r",
    }


@pytest.mark.parametrize(
    "media",
    [
        None,
        "image/jpeg",
        "IMAGE/PNG; q=1",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ],
)
async def test_a_body_may_be_the_picture_itself(
    http: httpx.AsyncClient, gateway: FakeGateway, media: str | None
) -> None:
    """Any image type, none at all, or what curl says when it is told nothing."""
    headers = {} if media is None else {"content-type": media}

    response = await http.post("/classify", content=PHOTO, headers=headers)

    assert response.status_code == 200
    assert gateway.calls[0].image == PHOTO


async def test_a_picture_may_come_as_multipart(
    http: httpx.AsyncClient, gateway: FakeGateway
) -> None:
    """Other fields beside `image` do no harm."""
    files = {"note": ("n.txt", b"hello"), "image": ("photo.jpg", PHOTO)}

    response = await http.post("/classify", files=files)

    assert response.status_code == 200
    assert gateway.calls[0].image == PHOTO


async def test_a_picture_may_come_as_json(http: httpx.AsyncClient, gateway: FakeGateway) -> None:
    """Base64 in the field `image`."""
    response = await http.post("/classify", json={"image": base64.b64encode(PHOTO).decode()})

    assert response.status_code == 200
    assert gateway.calls[0].image == PHOTO


MULTIPART = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("media", "body", "status", "kind"),
    [
        ("application/json", b"{", 400, "bad_parameter"),
        ("application/json", b"[]", 400, "bad_parameter"),
        ("application/json", b'{"image": 1}', 400, "bad_parameter"),
        ("application/json", b'{"picture": "YQ=="}', 400, "bad_parameter"),
        ("application/json", b'{"image": "YQ==", "budget_ms": 5}', 400, "bad_parameter"),
        ("application/json", b'{"image": "?!"}', 400, "bad_image"),
        ("application/json", b'{"image": "\xc3\xbc"}', 400, "bad_image"),
        ("application/json", b'{"image": ""}', 400, "bad_image"),
        ("multipart/form-data", b"x", 400, "bad_parameter"),
        (MULTIPART, b"x", 400, "bad_parameter"),
        (MULTIPART, b"--b\r\n", 400, "bad_parameter"),
        (
            MULTIPART,
            b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx',
            400,
            "bad_parameter",
        ),
        (
            MULTIPART,
            b'--b\r\nContent-Disposition: form-data; name="photo"\r\n\r\nx\r\n--b--\r\n',
            400,
            "bad_parameter",
        ),
        (MULTIPART, b"--b\r\nA: b\r\n\r\n\r\n" * 50 + b"--b--", 400, "bad_parameter"),
        ("multipart/form-data; boundary=" + "b" * 500, b"x", 400, "bad_parameter"),
        ("text/plain", PHOTO, 415, "unsupported_media"),
        ("video/mp4", PHOTO, 415, "unsupported_media"),
        ("image", PHOTO, 415, "unsupported_media"),
    ],
)
async def test_a_body_without_a_picture_is_refused_once(
    gateway: FakeGateway, http: httpx.AsyncClient, media: str, body: bytes, status: int, kind: str
) -> None:
    """Whatever is wrong with the body, the answer names it and the request is counted."""
    response = await http.post("/classify", content=body, headers={"content-type": media})

    assert (response.status_code, response.json()["type"]) == (status, f"/problems/{kind}")
    assert len(gateway.rejected) == 1
    assert gateway.calls == []


async def test_an_encoded_body_is_refused(http: httpx.AsyncClient) -> None:
    """A compressed picture is not silently taken for an unreadable one."""
    response = await http.post("/classify", content=PHOTO, headers={"content-encoding": "gzip"})

    assert response.json()["type"] == "/problems/unsupported_media"


@pytest.mark.parametrize(
    "query",
    [
        "budgetms=5",
        "budget_ms=5&budget_ms=5",
        "budget_ms=",
        "budget_ms=fast",
        "budget_ms=1_000",
        "budget_ms=%EF%BC%95",
        "budget_ms=1e999",
        "budget_ms=nan",
        "top_k=1.5",
        "top_k=-1",
        "top_k=99999999999999999999",
        "backend=CPU",
        "a=b",
        "variant=" + "x" * 5000,
    ],
)
async def test_an_unreadable_query_is_refused(
    http: httpx.AsyncClient, gateway: FakeGateway, query: str
) -> None:
    """A misspelt, repeated or odd parameter is named, never ignored."""
    response = await http.post(f"/classify?{query}", content=PHOTO)

    assert (response.status_code, response.json()["type"]) == (400, "/problems/bad_parameter")
    assert len(gateway.rejected) == 1


async def test_an_unknown_parameter_is_told_the_known_ones(http: httpx.AsyncClient) -> None:
    """The mistake and the way out stand in one sentence."""
    response = await http.post("/classify?budgetms=5", content=PHOTO)

    assert "'budgetms'" in response.json()["detail"]
    assert "budget_ms, top_k, min_accuracy, variant" in response.json()["detail"]


@pytest.mark.parametrize(
    ("query", "headers", "budget_ms"),
    [
        ("", ["7"], 7.0),
        ("?budget_ms=7", ["7.0"], 7.0),
        ("", ["7", "7"], 7.0),
        ("?budget_ms=7", [], 7.0),
    ],
)
async def test_the_budget_may_come_in_a_header(
    gateway: FakeGateway,
    http: httpx.AsyncClient,
    query: str,
    headers: list[str],
    budget_ms: float,
) -> None:
    """Query and header may both name it where they agree."""
    given = [("x-budget-ms", value) for value in headers]

    await http.post(f"/classify{query}", content=PHOTO, headers=given)

    assert gateway.calls[0].terms.budget_ms == budget_ms


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?budget_ms=5", ["7"]), ("", ["5", "7"]), ("", ["soon"]), ("", ["-1"])],
)
async def test_contradicting_budgets_are_refused(
    http: httpx.AsyncClient, query: str, headers: list[str]
) -> None:
    """Two different budgets cannot both be kept."""
    given = [("x-budget-ms", value) for value in headers]

    response = await http.post(f"/classify{query}", content=PHOTO, headers=given)

    assert (response.status_code, response.json()["type"]) == (400, "/problems/bad_parameter")


@pytest.mark.parametrize("kind", leaves(), ids=code)
async def test_every_error_is_a_problem_document(
    gateway: FakeGateway, http: httpx.AsyncClient, kind: type[ServeError]
) -> None:
    """Type, title, status and detail as RFC 9457 wants them, and the type leads to a page."""
    gateway.fails = error_of(kind)

    response = await http.post("/classify", content=PHOTO)

    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert response.status_code == problem["status"] == STATUS[kind]
    assert problem["type"] == f"/problems/{code(kind)}"
    assert (problem["title"], problem["detail"]) == (kind.title, str(gateway.fails))
    assert problem["instance"] == "/classify"
    assert problem["request_id"] == response.headers["x-request-id"]
    page = await http.get(problem["type"])
    assert (page.status_code, page.text.count("\n")) == (200, 1)


async def test_busy_tells_when_to_come_back(gateway: FakeGateway, http: httpx.AsyncClient) -> None:
    """Whole seconds in the header, rounded up; milliseconds in the document."""
    gateway.fails = error_of(next(kind for kind in leaves() if code(kind) == "busy"))

    response = await http.post("/classify", content=PHOTO)

    assert response.headers["retry-after"] == "2"
    assert response.json()["retry_after_ms"] == 1500.0
    assert response.json()["smallest_feasible_budget_ms"] == 12.5


async def test_a_missing_key_is_told_the_scheme() -> None:
    """401 carries the challenge that HTTP asks for; probes and documentation stay open."""
    gateway = FakeGateway(config=ServiceConfig(api_keys=("secret",)))

    async with asgi_client(gateway) as http:
        refused = [await http.get(path) for path in ("/frontier", "/metrics")]
        allowed = [
            await http.get(path) for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/")
        ]

    assert [(r.status_code, r.headers["www-authenticate"]) for r in refused] == [
        (401, "Bearer")
    ] * 2
    assert [r.status_code for r in allowed] == [200] * 5
    assert gateway.rejected == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/classify/", 404),
        ("GET", "/problems/unheard_of", 404),
        ("GET", "/classify", 405),
        ("DELETE", "/plan", 405),
        ("POST", "/frontier", 405),
    ],
)
async def test_wrong_addresses_are_problems_too(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """A wrong method names the right one; the caller's id comes back as with any other problem."""
    response = await http.request(method, path, headers={"X-Request-Id": "mine-1"})

    assert (response.status_code, response.json()["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert ("allow" in response.headers) == (status == 405)
    assert (response.json()["instance"], response.json()["request_id"]) == (path, "mine-1")


@pytest.mark.parametrize(
    ("state", "status"), [("starting", 503), ("ready", 200), ("draining", 503), ("stopped", 503)]
)
async def test_readiness_follows_the_gateway(
    gateway: FakeGateway, http: httpx.AsyncClient, state: str, status: int
) -> None:
    """Only a ready service asks for traffic, while every one of them is alive."""
    gateway.state = state  # type: ignore[assignment]  # parametrised as plain text

    ready, alive = await http.get("/readyz"), await http.get("/healthz")

    assert (ready.status_code, alive.status_code) == (status, 200)
    assert alive.json() == {"state": state}


async def test_an_unready_service_says_why(gateway: FakeGateway, http: httpx.AsyncClient) -> None:
    """The reason stands in the problem document."""
    gateway.state, gateway.not_ready_reason = "starting", "arms are being measured"

    response = await http.get("/readyz")

    assert response.json()["type"] == f"/problems/{code(NotReady)}"
    assert "arms are being measured" in response.json()["detail"]


async def test_a_draining_service_closes_its_connections(
    gateway: FakeGateway, http: httpx.AsyncClient
) -> None:
    """Callers open their next connection elsewhere, whatever they asked for."""
    serving = await http.post("/classify", content=PHOTO)
    gateway.state = "draining"

    answers = [await http.post("/classify", content=PHOTO), await http.get("/readyz")]
    gateway.fails = error_of(Draining)
    answers.append(await http.post("/classify", content=PHOTO))

    assert "connection" not in serving.headers
    assert [answer.headers["connection"] for answer in answers] == ["close"] * 3


async def test_head_answers_like_get(gateway: FakeGateway) -> None:
    """Load balancers probe with HEAD."""
    async with serving_http(gateway) as address, httpx.AsyncClient(base_url=address) as http:
        response = await http.head("/readyz")

    assert (response.status_code, response.content) == (200, b"")


async def test_pages_are_there_and_need_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    """The documentation works without a network."""
    docs, metrics, index = [await http.get(path) for path in ("/docs", "/metrics", "/")]

    assert "openapi.json" in docs.text
    assert "//" not in docs.text.replace("<!doctype", "").split("<script>")[0]
    assert "mnv4serve_build_info" in metrics.text
    assert index.json()["docs"] == "/docs"


async def test_the_page_reads_the_document_it_is_served_with(http: httpx.AsyncClient) -> None:
    """What the page fills its form from is in the document: descriptions, choices, defaults."""
    document = (await http.get("/openapi.json")).json()

    parameters = {p["name"]: p for p in document["paths"]["/classify"]["post"]["parameters"]}
    assert all(parameter["description"] for parameter in parameters.values())
    assert parameters["on_miss"]["schema"]["enum"] == ["degrade", "refuse"]
    assert parameters["top_k"]["schema"]["default"] == 5
    may_be_empty = {name for name, found in parameters.items() if found.get("allowEmptyValue")}
    assert may_be_empty == {"variant", "backend", "on_miss"}
    ready = document["paths"]["/readyz"]["get"]["responses"]["503"]
    assert ready["description"] == "Not ready, Draining."


async def test_an_empty_way_to_miss_is_the_usual_one(
    http: httpx.AsyncClient, gateway: FakeGateway
) -> None:
    """As `ON_MISS_UNSPECIFIED` is in a message."""
    response = await http.post("/classify?on_miss=", content=PHOTO)

    assert response.status_code == 200
    assert gateway.calls[0].terms.on_miss is OnMiss.DEGRADE


@pytest.mark.parametrize("name", ["budget_ms", "top_k", "min_accuracy"])
async def test_an_empty_number_is_told_as_such(http: httpx.AsyncClient, name: str) -> None:
    """`budget_ms=` is no number, but that is not the point."""
    response = await http.post(f"/classify?{name}=", content=PHOTO)

    assert response.json()["detail"] == f"{name} is empty: give it a value or leave it out"


async def test_lifespan_events_are_acknowledged(gateway: FakeGateway) -> None:
    """Servers that announce start and stop are not left waiting."""
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def receive() -> dict[str, str]:
        return next(events)

    async def send(message: object) -> None:
        sent.append(message)

    await make_app(gateway)({"type": "lifespan"}, receive, send)

    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


async def raw(address: str, *pieces: bytes, close: bool = False) -> bytes:
    """Sends bytes over a connection of its own and reads what comes back to its end."""
    _, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = b"" if close else await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_caller_who_waits_to_be_asked_for_the_body_is_asked(gateway: FakeGateway) -> None:
    """`Expect: 100-continue`, as curl sends it for large files, is answered before the body."""
    head = b"POST /classify HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\n"
    async with serving_http(gateway) as address:
        _, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(head + b"Content-Length: 3\r\n\r\n")
        asked = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=5)
        writer.write(b"abc")
        answer = await asyncio.wait_for(reader.read(), timeout=5)
        writer.close()
        await writer.wait_closed()

    assert asked.startswith(b"HTTP/1.1 100 ")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_slow_body_is_cut_off() -> None:
    """The deadline covers the body as a whole, and the connection ends with the answer."""
    gateway = FakeGateway(config=ServiceConfig(read_timeout_s=0.05))
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"

    async with serving_http(gateway) as address:
        answer = await raw(address, head)

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer
    assert [type(error) for _, _, error in gateway.rejected] == [SlowBody]


async def test_a_declared_length_over_the_limit_is_refused_unread(gateway: FakeGateway) -> None:
    """The answer comes although not one byte of the body was sent."""
    head = b"POST /classify HTTP/1.1\r\nConnection: close\r\nContent-Length: 5001\r\n\r\n"

    async with serving_http(gateway) as address:
        answer = await raw(address, head)

    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_streamed_body_is_cut_at_the_limit(gateway: FakeGateway) -> None:
    """A body that never says how long it is cannot fill the memory."""
    head = b"POST /classify HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1000\r\n" + bytes(0x1000) + b"\r\n"

    async with serving_http(gateway) as address:
        answer = await raw(address, head, chunk, chunk)

    assert answer.startswith(b"HTTP/1.1 413")
    assert [type(error) for _, _, error in gateway.rejected] == [TooLarge]


async def test_leaving_while_uploading_is_counted(gateway: FakeGateway) -> None:
    """A caller who goes away before the body is complete has cancelled."""
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"

    async with serving_http(gateway) as address:
        await raw(address, head, close=True)
        await gateway.finished.wait()

    assert [type(error) for _, _, error in gateway.rejected] == [Cancelled]
    assert gateway.rejected[0][0] is Transport.HTTP


async def test_a_connection_serves_many_requests(gateway: FakeGateway) -> None:
    """An error does not cost the connection."""
    good = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    bad = b"POST /classify?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    async with serving_http(gateway) as address:
        answer = await raw(address, good, bad, good, last)

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"400", b"200", b"200"]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    query=st.dictionaries(
        st.sampled_from(["budget_ms", "top_k", "min_accuracy", "variant", "backend", "on_miss"])
        | st.text(max_size=8),
        st.text(max_size=12) | st.floats().map(str) | st.integers().map(str),
        max_size=4,
    ),
    header=st.none() | st.floats().map(str) | st.text("0123456789.eE+-naif ", max_size=8),
)
def test_no_parameter_breaks_the_service(query: dict[str, str], header: str | None) -> None:
    """Whatever the parameters, the answer is one of the statuses that are promised."""
    gateway = FakeGateway()
    headers = {} if header is None else {"x-budget-ms": header}

    async def ask() -> int:
        async with asgi_client(gateway) as http:
            response = await http.post("/classify", params=query, content=PHOTO, headers=headers)
            return response.status_code

    status = asyncio.run(ask())

    assert status in {200, 400}
    assert len(gateway.calls) + len(gateway.rejected) == 1


schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(FakeGateway()))


@schema.parametrize()  # type: ignore[untyped-decorator]  # schemathesis is not checked
@settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_service_keeps_its_openapi_document(case: schemathesis.Case) -> None:
    """Generated requests, good and bad, get only what the document promises."""
    response = case.call_and_validate(
        excluded_checks=[schemathesis.checks.positive_data_acceptance]
    )

    promised = {*case.operation.definition.raw["responses"], "405"}  # for methods it names not
    assert str(response.status_code) in promised
