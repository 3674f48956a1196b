"""One artifact behind every server: how many workers suit it, then one and eight callers."""

import asyncio
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from loadtests.closed_loop import Throughput, load, wrk
from loadtests.peers.contenders import OURSELVES
from loadtests.peers.entrants import Effort, Entrant, client_of, started, take_turns
from loadtests.peers.running import Running
from loadtests.servers import HOST

CALLERS = {"one": 1, "eight": 8}


@dataclass(frozen=True, slots=True)
class Load:
    """One run of load, with what it cost the server."""

    seen: Throughput
    cpu_ms: float
    """A request, of all the server's processes."""


def tuned(entrant: Entrant, effort: Effort) -> tuple[Entrant, dict[int, float]]:
    """The entrant with the workers that give it most requests a second, and all that was tried.

    Raises PeerUnavailable.
    """
    tried: dict[int, float] = {}
    for workers in entrant.contender.workers:
        candidate = replace(entrant, workers=workers)
        effort.step(f"trying {candidate.title}")
        with started(candidate, warm_up=effort.warm_up) as server:
            run = measured(entrant, server, callers=CALLERS["eight"], seconds=effort.seconds)
        tried[workers] = round(run.seen.per_s, 1)
    return replace(entrant, workers=best(tried)), tried


def best(tried: Mapping[int, float]) -> int:
    """The setting with the highest throughput, the smaller of equals."""
    return max(tried, key=lambda workers: (tried[workers], -workers))


def same_artifact(entrants: Sequence[Entrant], effort: Effort) -> dict[str, Any]:
    """One and eight callers for every entrant in every round."""
    runs: dict[str, dict[str, list[Load]]] = {}

    def measure(entrant: Entrant, server: Running, place: int) -> None:
        del place
        by_callers = runs.setdefault(entrant.contender.name, {key: [] for key in CALLERS})
        for key, callers in CALLERS.items():
            run = measured(entrant, server, callers=callers, seconds=effort.seconds)
            by_callers[key].append(run)

    failed = take_turns(entrants, effort, measure)
    return {"rows": rows(runs), "failed": failed}


def measured(entrant: Entrant, server: Running, *, callers: int, seconds: float) -> Load:
    """Closed-loop load by wrk where it is installed, by a client of ours otherwise."""
    before_ms = server.cpu_ms()
    seen = _loaded(entrant, server, callers=callers, seconds=seconds)
    return Load(seen, (server.cpu_ms() - before_ms) / max(1, seen.requests))


def _loaded(entrant: Entrant, server: Running, *, callers: int, seconds: float) -> Throughput:
    wire, image, ask = entrant.contender.wire, entrant.task.expected.image, entrant.task.ask
    if not shutil.which("wrk"):
        return asyncio.run(load(client_of(server), image, ask, callers=callers, seconds=seconds))
    url = f"http://{HOST}:{server.port}{wire.path(ask)}"
    headers = wire.headers(image)
    return wrk(url, wire.body(image), headers=headers, callers=callers, seconds=seconds)


def rows(runs: Mapping[str, Mapping[str, Sequence[Load]]]) -> dict[str, dict[str, Any]]:
    """Medians over the rounds by contender and callers, with ratios to mnv4serve."""
    found = {
        name: {key: _middle(many) for key, many in by_callers.items() if many}
        for name, by_callers in runs.items()
    }
    ours = found.get(OURSELVES, {})
    for by_callers in found.values():
        for key, line in by_callers.items():
            line["ours_over_it"] = (
                round(ours[key]["per_s"] / line["per_s"], 3) if key in ours else None
            )
    return found


def _middle(many: Sequence[Load]) -> dict[str, Any]:
    def median(values: Iterator[float]) -> float:
        return round(statistics.median(values), 3)

    return {
        "per_s": median(run.seen.per_s for run in many),
        "p50_ms": median(run.seen.p50_ms for run in many),
        "p99_ms": median(run.seen.p99_ms for run in many),
        "cpu_ms": median(run.cpu_ms for run in many),
        "failed": sum(run.seen.failed for run in many),
        "client": many[0].seen.client,
        "rounds": [asdict(run) for run in many],
    }
