"""Who can start here, on which task, and how everybody takes turns."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.aio import HttpClient
from loadtests.asks import Ask
from loadtests.peers.contenders import Contender
from loadtests.peers.environments import PeerUnavailable
from loadtests.peers.running import Expected, Running, running
from loadtests.peers.work import Asked
from loadtests.servers import HOST, free_port

WARM_UP_CALLERS = 8

Step = Callable[[str], None]
"""Told before each thing that takes time."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is served and asked."""

    arm: str
    """Empty where mnv4serve chooses; a peer always serves one."""
    ask: Ask
    expected: Expected


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contender with its task, ready to be started here."""

    contender: Contender
    interpreter: Path
    task: Task
    workers: int

    @property
    def title(self) -> str:
        workers = f", {self.workers} workers" if self.workers else ""
        return f"{self.contender.label}{workers}"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float
    """Of each load."""
    warm_up: int
    """Requests before it."""
    step: Step


@contextmanager
def started(entrant: Entrant, *, warm_up: int) -> Iterator[Running]:
    """A warm server; raises PeerUnavailable."""
    task = entrant.task
    asked = Asked(task.arm, free_port(), entrant.workers)
    contender, interpreter = entrant.contender, entrant.interpreter
    with running(contender, interpreter, asked, ask=task.ask, expected=task.expected) as server:
        asyncio.run(_warm(server, task, requests=warm_up))
        yield server


async def _warm(server: Running, task: Task, *, requests: int) -> None:
    client = client_of(server)
    for _ in range(requests // WARM_UP_CALLERS):
        image, ask = task.expected.image, task.ask
        await asyncio.gather(*(client.classify(image, ask) for _ in range(WARM_UP_CALLERS)))
    await client.close()


def client_of(server: Running, *, timeout_s: float = 30.0) -> HttpClient:
    """Any number of requests at a time, put as the server wants them."""
    wire = server.contender.wire
    return HttpClient(HOST, server.port, write=wire.write, read=wire.read, timeout_s=timeout_s)


def take_turns(
    entrants: Sequence[Entrant], effort: Effort, measure: Callable[[Entrant, Running, int], None]
) -> dict[str, str]:
    """Start each entrant alone in every round and measure it; who failed, and why.

    One server at a time, so that the housekeeping of idle ones disturbs nobody; the order turns
    round by round, so that a busy minute of the machine hits everybody alike.
    """
    failed: dict[str, str] = {}
    for place in range(effort.rounds):
        start = place % max(1, len(entrants))
        for entrant in (*entrants[start:], *entrants[:start]):
            name = entrant.contender.name
            if name in failed:
                continue
            effort.step(f"round {place + 1}: {entrant.title}")
            try:
                with started(entrant, warm_up=effort.warm_up) as server:
                    measure(entrant, server, place)
            except PeerUnavailable as error:
                failed[name] = str(error)
    return failed
