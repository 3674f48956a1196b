"""Mixed budgets in an open loop: one static model behind each peer, mnv4serve free to choose."""

import asyncio
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests import report
from loadtests.aio import precise_loop
from loadtests.open_loop import Shot, fire, schedule
from loadtests.peers.entrants import Effort, Entrant, client_of, take_turns
from loadtests.peers.running import Running

PATIENCE_S = 2.0
"""Nobody waits longer; every budget has long passed, and sockets are not piled up."""
WARM_CONNECTIONS = 16

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offered:
    """What is sent, and what an answer is worth."""

    pictures: Sequence[bytes]
    rates: Sequence[float]
    """Requests a second."""
    accuracy: Mapping[str, float]
    """Certified, by arm; an answer of unknown accuracy is worth nothing."""


def shots_at(
    server: Running, offered: Offered, *, rate: float, seconds: float, seed: int
) -> list[Shot]:
    """Poisson arrivals whose times, budgets and pictures follow from the seed alone.

    Nobody asks to be refused: no peer could do that, and a refusal would count as wrong.
    """
    due_s = schedule("poisson", rate=rate, requests=int(2 * rate * seconds) + 20, seed=seed)
    due_s = due_s[due_s <= seconds]

    async def run() -> list[Shot]:
        client = client_of(server, timeout_s=PATIENCE_S)
        await client.open(WARM_CONNECTIONS)
        try:
            return await fire(client, due_s.tolist(), offered.pictures, seed=seed, refuse_share=0.0)
        finally:
            await client.close()

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(run())


def judged(shots: Sequence[Shot], accuracy: Mapping[str, float]) -> Line:
    """What the callers got: late, refused and failed requests count as missed and as wrong.

    Both are judged by the caller's clock from the scheduled send, the same for every server.
    """
    in_time = [s for s in shots if s.answer.arm and s.latency_ms <= (s.ask.budget_ms or 0.0)]
    answered = [shot for shot in shots if shot.answer.arm]
    budgets = sorted({shot.ask.budget_ms or 0.0 for shot in shots})
    offered = Counter(shot.ask.budget_ms for shot in shots)
    met = Counter(shot.ask.budget_ms for shot in in_time)
    return {
        "requests": len(shots),
        "answered": len(answered),
        "on_time_share": len(in_time) / len(shots),
        "effective_accuracy": sum(accuracy.get(s.answer.arm, 0.0) for s in in_time) / len(shots),
        "on_time_by_budget": {f"{b:g} ms": met[b] / offered[b] for b in budgets},
        "latency_ms": report.percentiles([shot.latency_ms for shot in answered]),
        "generator_lag_ms": report.percentiles([shot.lag_ms for shot in shots]),
        "arms": dict(Counter(shot.answer.arm for shot in answered).most_common()),
    }


def mixed_budgets(entrants: Sequence[Entrant], offered: Offered, effort: Effort) -> dict[str, Any]:
    """Every entrant at every rate; a round's arrivals are the same for all."""
    runs: dict[tuple[str, str, float], list[Line]] = {}

    def measure(entrant: Entrant, server: Running, place: int) -> None:
        for rate in offered.rates:
            before_ms = server.cpu_ms()
            shots = shots_at(server, offered, rate=rate, seconds=effort.seconds, seed=place)
            line = judged(shots, offered.accuracy)
            line["cpu_ms"] = (server.cpu_ms() - before_ms) / max(1, line["answered"])
            key = (entrant.contender.name, entrant.task.arm, rate)
            runs.setdefault(key, []).append(line)

    failed = take_turns(entrants, effort, measure)
    return {"rows": rows(runs), "failed": failed}


def rows(runs: Mapping[tuple[str, str, float], Sequence[Line]]) -> list[Line]:
    """One line a rate, contender and static arm: means of shares, medians of the rest."""
    return [
        {"contender": name, "static_arm": arm or None, "rate": rate, **_middle(many)}
        for (name, arm, rate), many in sorted(runs.items(), key=lambda item: item[0][2])
    ]


def _middle(many: Sequence[Line]) -> Line:
    def latency_ms(name: str) -> float | None:
        known = [line["latency_ms"][name] for line in many if line["latency_ms"]]
        return statistics.median(known) if known else None

    return {
        "on_time_share": statistics.mean(line["on_time_share"] for line in many),
        "effective_accuracy": statistics.mean(line["effective_accuracy"] for line in many),
        "p50_ms": latency_ms("p50"),
        "p99_ms": latency_ms("p99"),
        "cpu_ms": statistics.median(line["cpu_ms"] for line in many),
        "rounds": list(many),
    }
