"""One caller, one request at a time: what answers within which budget, and how fast.

python -m loadtests.sequential --requests 200
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from loadtests import report
from loadtests.asks import BUDGETS_MS, Ask, only_loopback, photos
from loadtests.blocking import Client, GrpcClient, HttpClient

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


def main() -> None:
    flags = argparse.ArgumentParser(
        prog="python -m loadtests.sequential",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--host", default="127.0.0.1")
    flags.add_argument("--port", type=int, default=8000)
    flags.add_argument("--grpc-port", type=int, default=9000)
    flags.add_argument("--requests", type=int, default=200, help="requests a budget")
    flags.add_argument("--photos", help="folder of JPEGs; LOADTESTS_PHOTOS or the example")
    options = flags.parse_args()
    host, pictures = only_loopback(options.host), photos(options.photos)
    clients: dict[str, Client] = {
        "http": HttpClient(host, options.port),
        "grpc": GrpcClient(host, options.grpc_port),
    }
    requests = min(options.requests, MAX_REQUESTS)
    found = {name: by_budget(c, pictures, requests=requests) for name, c in clients.items()}
    for name, lines in found.items():
        show(name, lines)
    report.save("sequential", found)


if __name__ == "__main__":
    main()
