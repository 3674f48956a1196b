"""A small client for both protocols: `http://`, `https://`, `grpc://` and `grpcs://`.

    with Client("http://127.0.0.1:8000") as client:
        reply = client.classify(photo, budget_ms=5)
        print(reply.predictions[0].label, reply.arm.variant, reply.on_time)

Failures are the classes of `mnv4serve.errors` again, with their hints; Unreachable where no
service answers. What broke off unanswered is sent once more where the budget still allows it. The
budget is sent as it is given: it is the service's time, and the network
comes on top of it.
"""

import asyncio
import math
import time
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Self, TypeVar, Unpack
from urllib.parse import urlsplit

from mnv4serve.client.failures import Unreachable, pause_before_retry_ms
from mnv4serve.client.http import AsyncHttpSender, HttpSender
from mnv4serve.client.operations import CLASSIFY, FRONTIER, PLAN, Operation, Request
from mnv4serve.client.rpc import AsyncGrpcSender, GrpcSender
from mnv4serve.client.values import Arm, ArmView, Asked, Frontier, Latency, Plan, Reply
from mnv4serve.errors import BadParameter, MnvError

__all__ = [
    "Arm",
    "ArmView",
    "Asked",
    "AsyncClient",
    "Client",
    "Frontier",
    "Latency",
    "Plan",
    "Reply",
    "Unreachable",
]

T = TypeVar("T")

PATIENCE_MS = 2000.0
"""The service's usual late limit, and as much again for the network."""
TIMEOUT_WITHOUT_BUDGET_S = 30.0
"""Where the service's default budget holds, which a client does not know."""


class Client:
    """Asks one service, one request at a time; `patience_ms` is waited beyond the budget."""

    def __init__(
        self, address: str, *, api_key: str | None = None, patience_ms: float = PATIENCE_MS
    ) -> None:
        self._patience_ms = patience_ms
        scheme, headers = _scheme(address), _headers(api_key)
        self._sender: HttpSender | GrpcSender = (
            HttpSender(address, headers=headers)
            if scheme.startswith("http")
            else GrpcSender(
                urlsplit(address).netloc,
                secure=scheme == "grpcs",
                metadata=tuple(headers.items()),
            )
        )

    def classify(self, image: bytes, **asked: Unpack[Asked]) -> Reply:
        """The labels of a picture, from the most accurate variant that fits the budget."""
        return self._ask(CLASSIFY, image, asked)

    def plan(self, image: bytes, **asked: Unpack[Asked]) -> Plan:
        """What `classify` would choose now, without running it."""
        return self._ask(PLAN, image, asked)

    def frontier(self) -> Frontier:
        """The arms with their accuracy and their latency now."""
        return self._ask(FRONTIER, b"", {})

    def close(self) -> None:
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, operation: Operation[T], image: bytes, asked: Asked) -> T:
        request = _request(operation, image, asked, self._patience_ms)
        pause_s = _pauses(asked, self._patience_ms)
        for attempt in count(1):
            try:
                return self._sender.send(request)
            except MnvError as error:
                time.sleep(pause_s(error, attempt))
        raise AssertionError("the last attempt returns or raises")


class AsyncClient:
    """The same on an event loop, for any number of requests at a time."""

    def __init__(
        self, address: str, *, api_key: str | None = None, patience_ms: float = PATIENCE_MS
    ) -> None:
        self._patience_ms = patience_ms
        scheme, headers = _scheme(address), _headers(api_key)
        self._sender: AsyncHttpSender | AsyncGrpcSender = (
            AsyncHttpSender(address, headers=headers)
            if scheme.startswith("http")
            else AsyncGrpcSender(
                urlsplit(address).netloc,
                secure=scheme == "grpcs",
                metadata=tuple(headers.items()),
            )
        )

    async def classify(self, image: bytes, **asked: Unpack[Asked]) -> Reply:
        """The labels of a picture, from the most accurate variant that fits the budget."""
        return await self._ask(CLASSIFY, image, asked)

    async def plan(self, image: bytes, **asked: Unpack[Asked]) -> Plan:
        """What `classify` would choose now, without running it."""
        return await self._ask(PLAN, image, asked)

    async def frontier(self) -> Frontier:
        """The arms with their accuracy and their latency now."""
        return await self._ask(FRONTIER, b"", {})

    async def close(self) -> None:
        await self._sender.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, operation: Operation[T], image: bytes, asked: Asked) -> T:
        request = _request(operation, image, asked, self._patience_ms)
        pause_s = _pauses(asked, self._patience_ms)
        for attempt in count(1):
            try:
                return await self._sender.send(request)
            except MnvError as error:
                await asyncio.sleep(pause_s(error, attempt))
        raise AssertionError("the last attempt returns or raises")


def _request(operation: Operation[T], image: bytes, asked: Asked, patience_ms: float) -> Request[T]:
    budget_ms = asked.get("budget_ms", math.nan)
    known = math.isfinite(budget_ms)  # what is not, the service refuses
    timeout_s = (budget_ms + patience_ms) / 1000.0 if known else TIMEOUT_WITHOUT_BUDGET_S
    return Request(operation, image, asked, timeout_s=max(timeout_s, patience_ms / 1000.0))


def _pauses(asked: Asked, patience_ms: float) -> Callable[[MnvError, int], float]:
    """Seconds to wait after a failed attempt; raises the error again where that was the last."""
    started_s = time.monotonic()

    def pause_s(error: MnvError, attempt: int) -> float:
        pause_ms = pause_before_retry_ms(
            error,
            attempt=attempt,
            spent_ms=(time.monotonic() - started_s) * 1000.0,
            budget_ms=asked.get("budget_ms", 0.0),
            patience_ms=patience_ms,
        )
        if pause_ms is None:
            raise error
        return pause_ms / 1000.0

    return pause_s


def _scheme(address: str) -> str:
    wrong = f"{address} is no address like http://host:8000 or grpc://host:9000"
    try:
        url = urlsplit(address)
        known = bool(url.hostname) and url.port != 0  # reading a port that is none raises
    except ValueError as error:
        raise BadParameter(wrong) from error
    if not known or url.scheme not in ("http", "https", "grpc", "grpcs"):
        raise BadParameter(wrong)
    return url.scheme


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}
