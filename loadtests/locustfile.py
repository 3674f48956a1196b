"""Locust users over HTTP and gRPC with mixed budgets.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000

Asks the server that `make serve` has started. Without a browser: --headless --users 8
--run-time 30s. gRPC goes to port 9000 of the same host, or to `MNV4SERVE_GRPC_PORT`. Latency here
counts from the real send (closed loop): for tails under load use loadtests.open_loop.
"""

import os
import random
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc.experimental.gevent
from locust import FastHttpUser, User, between, events, task
from locust.env import Environment
from typing_extensions import override

from loadtests.asks import Ask, mixed, only_loopback, photos
from loadtests.blocking import GrpcClient, http_answer
from loadtests.flags import reached

grpc.experimental.gevent.init_gevent()

PICTURES = photos()
THINK_S = between(0.01, 0.1)
MS = 1000.0
DEFAULT_URL, HTTP_PORT = "http://127.0.0.1:8000", 80


def _stay_here(environment: Environment, **_: object) -> None:
    url = urlsplit(environment.host or DEFAULT_URL)
    with reached(only_loopback(_host(environment.host)), url.port or HTTP_PORT, _grpc_port()):
        pass


events.test_start.add_listener(_stay_here)  # type: ignore[no-untyped-call]


def _host(url: str | None) -> str:
    return urlsplit(url or DEFAULT_URL).hostname or "127.0.0.1"


def _grpc_port() -> int:
    return int(os.environ.get("MNV4SERVE_GRPC_PORT", "9000"))


def _label(ask: Ask) -> str:
    return f"classify {ask.budget_ms:g} ms, {ask.on_miss}"


def _asks() -> Iterator[Ask]:
    return mixed(random.Random())


class HttpCaller(FastHttpUser):
    """Posts photos; a refusal that was asked for is an answer, not a failure."""

    weight = 3
    wait_time = THINK_S

    @override
    def on_start(self) -> None:
        self._asks = _asks()

    @task
    def classify(self) -> None:
        ask = next(self._asks)
        with self.client.post(
            f"/classify{ask.query()}",
            data=random.choice(PICTURES),  # type: ignore[arg-type]  # bytes are fine
            headers={"Content-Type": "image/jpeg"},
            name=_label(ask),
            catch_response=True,
        ) as response:
            answer = http_answer(response.status_code, response.content or b"")
            if answer.outcome in {"on_time", "late", "refused"}:
                response.success()
            else:
                response.failure(answer.outcome)


class GrpcCaller(User):
    """The same over one gRPC channel a user."""

    weight = 1
    wait_time = THINK_S

    @override
    def on_start(self) -> None:
        self._asks = _asks()
        self._client = GrpcClient(_host(self.host), _grpc_port())

    @override
    def on_stop(self) -> None:
        self._client.close()

    @task
    def classify(self) -> None:
        ask = next(self._asks)
        start = time.perf_counter()
        answer = self._client.classify(random.choice(PICTURES), ask)
        failed = answer.outcome not in {"on_time", "late", "refused"}
        self.environment.events.request.fire(
            request_type="gRPC",
            name=_label(ask),
            response_time=(time.perf_counter() - start) * MS,
            response_length=0,
            exception=RuntimeError(answer.outcome) if failed else None,
            context={},
        )
