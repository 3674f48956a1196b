"""The ray engine as its callers see it, through HAProxy, with a pool one hop away."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import httpx
import pytest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mnv4serve.v1 import classifier_pb2 as pb
from mnv4serve.v1 import classifier_pb2_grpc
from tests.serving.conftest import Cluster, replicas
from tests.serving.rig import jpeg

pytestmark = pytest.mark.ray
IMAGE = jpeg()
BURST = 16
"""More than run and wait at the far pool together."""
SOON = "budget_ms=100&backend=onnx"
"""Given up half a second late, before the pool counts as down."""
PATIENT = "budget_ms=10000&backend=onnx"


def _post(cluster: Cluster, query: str, body: bytes = IMAGE) -> httpx.Response:
    return httpx.post(f"{cluster.http}/classify?{query}", content=body, timeout=20)


@pytest.fixture
def stub(cluster: Cluster) -> Iterator[classifier_pb2_grpc.ClassifierStub]:
    with grpc.insecure_channel(cluster.grpc) as channel:
        yield classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("backend", "device"), [("cpu", "cpu"), ("onnx", "far")])
def test_both_placements_answer_over_http(cluster: Cluster, backend: str, device: str) -> None:
    """A colocated pool and one behind a hop answer the same way."""
    reply = _post(cluster, f"budget_ms=10000&backend={backend}").json()

    assert (reply["backend"], reply["device"]) == (backend, device)
    assert reply["predictions"]


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("budget_ms=x", IMAGE, 400),
        ("budget_ms=1000", b"no picture", 415),
        ("budget_ms=1000", b"x" * 300_000, 413),
        ("budget_ms=0.01&on_miss=refuse", IMAGE, 422),
        ("budget_ms=1000&variant=nothing", IMAGE, 400),
    ],
)
def test_errors_keep_their_meaning_over_http(
    cluster: Cluster, query: str, body: bytes, status: int
) -> None:
    """Problem details come through the proxy as they were written."""
    answer = _post(cluster, query, body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


@contextmanager
def silent_pool(cluster: Cluster) -> Iterator[None]:
    """The far pool is there and says nothing; afterwards it answers again."""
    (pool,) = replicas("pool-far")
    pool.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        pool.send_signal(signal.SIGCONT)
    _until(cluster, PATIENT, httpx.codes.OK)


def _until(cluster: Cluster, query: str, status: int) -> httpx.Response:
    give_up = time.monotonic() + 90
    while (answer := _post(cluster, query)).status_code != status:
        assert time.monotonic() < give_up, answer.text
    return answer


def test_backpressure_keeps_its_meaning_over_http(cluster: Cluster) -> None:
    """Too many are 429, out of time 504, a pool that is down 503, each with problem details."""
    with silent_pool(cluster):
        with ThreadPoolExecutor(BURST) as callers:
            answers = list(callers.map(lambda _: _post(cluster, SOON), range(BURST)))
        answers.append(_until(cluster, PATIENT, httpx.codes.SERVICE_UNAVAILABLE))

    found = {one.status_code: one for one in answers}
    assert found.keys() == {429, 503, 504}
    assert {one.headers["content-type"] for one in answers} == {"application/problem+json"}
    assert "retry-after" in found[429].headers


def test_backpressure_keeps_its_meaning_over_grpc(
    cluster: Cluster, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    """The same three as statuses, each with its details."""
    soon = pb.ClassifyRequest(image=IMAGE, budget_ms=100, backend="onnx")

    with silent_pool(cluster):
        calls = [stub.Classify.future(soon, timeout=20) for _ in range(BURST)]
        found = {one.code(): one for one in calls}
        _until(cluster, PATIENT, httpx.codes.SERVICE_UNAVAILABLE)
        down = stub.Classify.future(soon, timeout=20)
        found[down.code()] = down

    expected = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
    assert {code.name for code in found} == expected
    assert all("grpc-status-details-bin" in dict(one.trailing_metadata()) for one in found.values())


def test_an_answer_is_named_once(cluster: Cluster) -> None:
    """Serve and the gateway both know request ids; the caller sees one, its own."""
    given = {"x-request-id": "mine"}

    answer = httpx.post(f"{cluster.http}/classify", content=IMAGE, headers=given, timeout=20)

    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert answer.json()["request_id"] == "mine"


def test_grpc_answers(stub: classifier_pb2_grpc.ClassifierStub) -> None:
    """The same class answers gRPC."""
    reply = stub.Classify(pb.ClassifyRequest(image=IMAGE, budget_ms=10_000))

    assert reply.predictions


def test_grpc_errors_carry_their_details(stub: classifier_pb2_grpc.ClassifierStub) -> None:
    """Status, message and details reach the client through the proxy."""
    request = pb.ClassifyRequest(image=IMAGE, budget_ms=0.01, on_miss=pb.ON_MISS_REFUSE)

    with pytest.raises(grpc.RpcError) as failed:
        stub.Classify(request)

    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    details = dict(failed.value.trailing_metadata())["grpc-status-details-bin"]
    assert Status.FromString(details).details


def test_a_stream_answers_every_frame(stub: classifier_pb2_grpc.ClassifierStub) -> None:
    """Frames are answered in the stream, bad ones with an error of their own."""
    frames = [
        pb.ClassifyStreamRequest(
            frame_id=number,
            request=pb.ClassifyRequest(image=image, budget_ms=10_000),
        )
        for number, image in enumerate((IMAGE, b"no picture", IMAGE))
    ]

    answers = {one.frame_id: one.WhichOneof("outcome") for one in stub.ClassifyStream(iter(frames))}

    assert answers == {0: "reply", 1: "error", 2: "reply"}


def test_health_is_served(cluster: Cluster) -> None:
    """Load balancers and Kubernetes may probe the standard health service."""
    with grpc.insecure_channel(cluster.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_metrics_are_the_nodes(cluster: Cluster) -> None:
    """The service's own path says where they are, and there they are."""
    _post(cluster, "budget_ms=10000")
    elsewhere = httpx.get(f"{cluster.http}/metrics", timeout=10)

    give_up = time.monotonic() + 60
    text = ""
    while "ray_mnv4serve_requests_total" not in text and time.monotonic() < give_up:
        time.sleep(1)
        text = httpx.get(cluster.metrics, timeout=10).text

    assert elsewhere.status_code == httpx.codes.NOT_FOUND
    assert "metrics-export-port" in elsewhere.text
    assert "ray_mnv4serve_requests_total" in text
    assert "ray_mnv4serve_device_up" in text


async def test_a_killed_replica_costs_no_request_that_may_go_elsewhere(cluster: Cluster) -> None:
    """Under load, requests on a killed pool are answered by another; the pool comes back."""
    statuses: Counter[int] = Counter()
    devices: Counter[str] = Counter()

    async def caller(client: httpx.AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            answer = await client.post("/classify?budget_ms=3000", content=IMAGE)
            statuses[answer.status_code] += 1
            devices[answer.json().get("device", "")] += 1

    async def kill() -> None:
        await asyncio.sleep(1)
        for replica in replicas("pool-far"):
            replica.send_signal(signal.SIGKILL)

    async with httpx.AsyncClient(base_url=cluster.http, timeout=20) as client:
        until = time.monotonic() + 4
        await asyncio.gather(*(caller(client, until) for _ in range(3)), kill())

    assert set(statuses) == {200}, statuses
    give_up = time.monotonic() + 90
    while _post(cluster, "budget_ms=10000&backend=onnx").status_code != httpx.codes.OK:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.5)


def test_without_a_replica_grpc_is_unavailable(
    cluster: Cluster, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    """Until the only ingress is replaced callers are told what clients retry, then served."""
    request = pb.ClassifyRequest(image=IMAGE, budget_ms=10_000)
    (ingress,) = replicas("ingress")

    ingress.send_signal(signal.SIGKILL)
    ingress.wait(10)
    give_up = time.monotonic() + 90
    while not (next_ones := replicas("ingress")):
        assert time.monotonic() < give_up
    next_ones[0].send_signal(signal.SIGSTOP)  # or a call might wait for it and be answered
    with pytest.raises(grpc.RpcError) as failed:
        stub.Classify(request, timeout=20)
    next_ones[0].send_signal(signal.SIGCONT)

    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    while _post(cluster, "budget_ms=10000").status_code != httpx.codes.OK:
        assert time.monotonic() < give_up
    assert stub.Classify(request, timeout=20).predictions
