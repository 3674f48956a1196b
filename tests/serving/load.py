"""Load over both protocols: callers that try once more what was not answered, and their tally."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc
import httpx

from mnv4serve.v1 import classifier_pb2 as pb
from mnv4serve.v1 import classifier_pb2_grpc
from tests.serving.declared import Declared
from tests.serving.rig import jpeg

IMAGE = jpeg()
CALLERS = 3
BUDGET_MS = 3000
TIMEOUT_S = 20.0
PAUSE_S = 0.05
CUT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""How a connection that is refused or closed reads over gRPC; nobody cancels these calls."""
LABELS = {"tiny": "red", "second": "crimson"}
"""A label that tells the zoos apart."""


class Answer(NamedTuple):
    """What a caller looks at."""

    zoo: str
    labels: frozenset[str]


class LostError(Exception):
    """An attempt that was not answered."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again
        """Whether the connection was refused or closed, which another attempt is worth."""


Ask = Callable[[], Awaitable[Answer]]


@dataclass
class Tally:
    """How the requests of a load ended."""

    answers: Counter[str] = field(default_factory=Counter)
    """By zoo."""
    failed: int = 0
    """At the first attempt."""
    failed_again: int = 0
    """At the second, which only a connection that was refused or closed is worth."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Of what failed."""
    mixed_up: int = 0
    """Answers with the labels of another zoo."""

    async def count(self, ask: Ask) -> None:
        """Ask, and once more where the connection was refused or closed."""
        try:
            self._take(await ask())
        except LostError as lost:
            self.failed += 1
            self.reasons[str(lost)] += 1
            self.failed_again += not (lost.again and await self._again(ask))

    async def _again(self, ask: Ask) -> bool:
        await asyncio.sleep(PAUSE_S)
        try:
            self._take(await ask())
        except LostError:
            return False
        return True

    def _take(self, answer: Answer) -> None:
        self.answers[answer.zoo] += 1
        self.mixed_up += LABELS[answer.zoo] not in answer.labels


@asynccontextmanager
async def load(
    cluster: Declared,
    *,
    query: str = f"budget_ms={BUDGET_MS}",
    image: bytes = IMAGE,
    callers: int = CALLERS,
) -> AsyncIterator[Tally]:
    """So many callers over HTTP, each asking again as soon as it is answered."""
    async with httpx.AsyncClient(base_url=cluster.http, timeout=TIMEOUT_S) as client:

        async def ask() -> Answer:
            try:
                answer = await client.post(f"/classify?{query}", content=image)
            except httpx.TransportError as error:
                raise LostError(type(error).__name__, again=True) from error
            if answer.status_code != httpx.codes.OK:
                raise LostError(f"{answer.status_code} {answer.text[:160]}", again=False)
            document = answer.json()
            return Answer(document["zoo"], frozenset(p["label"] for p in document["predictions"]))

        async with _asking([ask] * callers) as tally:
            yield tally


@asynccontextmanager
async def grpc_load(cluster: Declared, *, callers: int = CALLERS) -> AsyncIterator[Tally]:
    """The same over gRPC, without the retries of any client."""
    options = [("grpc.enable_retries", 0)]
    request = pb.ClassifyRequest(image=IMAGE, budget_ms=BUDGET_MS)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{cluster.grpc_port}", options) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]

        async def ask() -> Answer:
            try:
                reply = await stub.Classify(request, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                again = error.code() in CUT
                raise LostError(f"{error.code().name} {error.details()}", again=again) from error
            return Answer(reply.zoo, frozenset(one.label for one in reply.predictions))

        async with _asking([ask] * callers) as tally:
            yield tally


@asynccontextmanager
async def _asking(asks: list[Ask]) -> AsyncIterator[Tally]:
    tally, stop = Tally(), asyncio.Event()

    async def caller(ask: Ask) -> None:
        while not stop.is_set():
            await tally.count(ask)

    async with asyncio.TaskGroup() as group:
        for ask in asks:
            group.create_task(caller(ask))
        try:
            yield tally
        finally:
            stop.set()
