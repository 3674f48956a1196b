"""Requests to a service with mixed hardware, with all that it said about each."""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from loadtests.aio import HttpClient
from loadtests.asks import HTTP_OUTCOMES, Answer, Ask
from loadtests.blocking import HttpClient as OneConnection
from loadtests.blocking import http_request
from loadtests.open_loop import schedule
from loadtests.servers import HOST

WARM_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Told(Answer):
    """An answer with its whole document."""

    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shot:
    """One request and what became of it."""

    budget_ms: float
    pin: str
    """The backend that was asked for; empty where any would do."""
    outcome: str
    arm: str = ""
    """Empty where nothing ran, and so are those that follow."""
    backend: str = ""
    simulated: bool = False
    reason: str = ""
    accuracy: float = 0.0
    predicted_ms: float = 0.0
    total_ms: float = 0.0
    service_ms: float = 0.0

    @property
    def error(self) -> float:
        """How far the prediction was off, as a share of what really happened."""
        return abs(self.predicted_ms / self.total_ms - 1.0)


def shot_of(ask: Ask, told: Told) -> Shot:
    document, budget_ms = told.document, ask.budget_ms or 0.0
    if not document:
        return Shot(budget_ms, ask.backend or "", told.outcome)
    latency = document["latency_ms"]
    return Shot(
        budget_ms=budget_ms,
        pin=ask.backend or "",
        outcome=told.outcome,
        arm=told.arm,
        backend=document["backend"],
        simulated=document.get("simulated", False),
        reason=document["plan"]["reason"],
        accuracy=document["accuracy"] or 0.0,
        predicted_ms=latency["predicted"],
        total_ms=latency["total"],
        service_ms=latency["service"],
    )


def one_by_one(port: int, image: bytes, asks: Sequence[Ask], *, pause_s: float = 0) -> list[Shot]:
    """One caller who waits for each answer."""
    shots = []
    with OneConnection(HOST, port) as client:
        for ask in asks:
            told = _told(*client.exchange(http_request(HOST, image, ask)))
            shots.append(shot_of(ask, told))
            time.sleep(pause_s)
    return shots


def under_load(
    port: int, image: bytes, budgets_ms: Sequence[float], *, rate: float, requests: int
) -> list[Shot]:
    """Budgets drawn alike, sent as a Poisson process that waits for nobody."""
    due_s = schedule("poisson", rate=rate, requests=requests, seed=5).tolist()
    return asyncio.run(_fire(port, image, budgets_ms, due_s))


async def _fire(
    port: int, image: bytes, budgets_ms: Sequence[float], due_s: Sequence[float]
) -> list[Shot]:
    rng = random.Random(5)
    client = HttpClient(HOST, port, read=_told)
    await client.open(WARM_CONNECTIONS)
    start_s = time.perf_counter() + 0.05
    tasks = []
    for offset_s in due_s:
        ahead_s = start_s + offset_s - time.perf_counter()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        tasks.append(asyncio.create_task(_shoot(client, image, Ask(rng.choice(budgets_ms)))))
    shots = await asyncio.gather(*tasks)
    await client.close()
    return shots


async def _shoot(client: HttpClient, image: bytes, ask: Ask) -> Shot:
    answer = await client.classify(image, ask)
    told = answer if isinstance(answer, Told) else Told(answer.outcome)
    return shot_of(ask, told)


def _told(status: int, body: bytes) -> Told:
    if status != HTTPStatus.OK:
        return Told(HTTP_OUTCOMES.get(status, "error"))
    document = json.loads(body)
    return Told("on_time" if document["on_time"] else "late", document["arm"], document)
