"""One caller, one request at a time: what answers within which budget, and how fast.

    python -m loadtests.sequential --requests 200

Asks the server that `make serve` has started over HTTP, then over gRPC.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from loadtests import report
from loadtests.asks import BUDGETS_MS, Ask, only_loopback, photos
from loadtests.blocking import Client, GrpcClient, HttpClient
from loadtests.flags import add_photos, add_server, command_line, count, reached

MAX_REQUESTS = 10_000
MS = 1000.0


def by_budget(client: Client, pictures: Sequence[bytes], *, requests: int) -> list[dict[str, Any]]:
    """For every budget: latency as the caller sees it, punctuality, and the arms that answered."""
    return [_one_budget(client, pictures, budget, requests=requests) for budget in BUDGETS_MS]


def _one_budget(
    client: Client, pictures: Sequence[bytes], budget_ms: float, *, requests: int
) -> dict[str, Any]:
    took_ms: list[float] = []
    arms: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for place in range(requests):
        start = time.perf_counter()
        answer = client.classify(pictures[place % len(pictures)], Ask(budget_ms))
        took_ms.append((time.perf_counter() - start) * MS)
        arms[answer.arm] += 1
        outcomes[answer.outcome] += 1
    return {
        "budget_ms": budget_ms,
        "latency_ms": report.percentiles(took_ms),
        "within_budget_share": sum(ms <= budget_ms for ms in took_ms) / requests,
        "on_time_share": outcomes["on_time"] / requests,
        "arms": dict(arms.most_common()),
    }


def show(protocol: str, found: Sequence[dict[str, Any]]) -> None:
    columns = ("budget", "on time", "seen in time", "p50", "p90", "p99", "mostly answered by")
    rows = [
        (
            f"{line['budget_ms']:g} ms",
            f"{line['on_time_share']:.1%}",
            f"{line['within_budget_share']:.1%}",
            *line["latency_ms"].values(),
            next(iter(line["arms"])),
        )
        for line in found
    ]
    report.table(f"One at a time over {protocol} (ms)", columns, rows)


def parser() -> argparse.ArgumentParser:
    flags = command_line("loadtests.sequential", __doc__)
    add_server(flags)
    flags.add_argument(
        "--requests", type=count, default=200, help="for each budget; default %(default)s"
    )
    add_photos(flags)
    return flags


def main() -> None:
    options = parser().parse_args()
    host, pictures = only_loopback(options.host), photos(options.photos)
    requests = min(options.requests, MAX_REQUESTS)
    with reached(host, options.port, options.grpc_port):
        clients: dict[str, Client] = {
            "http": HttpClient(host, options.port),
            "grpc": GrpcClient(host, options.grpc_port),
        }
        found = {name: by_budget(c, pictures, requests=requests) for name, c in clients.items()}
    for name, lines in found.items():
        show(name, lines)
    report.save("sequential", found)


if __name__ == "__main__":
    main()
