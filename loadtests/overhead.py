"""What serving costs: end-to-end latency minus the same decode + inference run bare.

All contenders take turns in short rounds within one run, so that whatever else the machine does
hits all of them; compare the ratios and differences of one run, never numbers of two.

    python -m loadtests.overhead --variant conv_small@224
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from loadtests import report
from loadtests.asks import Ask, photo_of_size, photos
from loadtests.bare import open_bare
from loadtests.blocking import GrpcClient, HttpClient
from loadtests.closed_loop import Throughput, grpc_throughput, http_throughput
from loadtests.flags import add_photos, command_line, count, positive
from loadtests.limit import Limit, limit_of
from loadtests.servers import HOST, Server, our_server, plain_server

WARM_UP = 3
CALLERS = 8
TIGHT_MS = 1.0
"""Nothing meets it, so the fastest precision of the pinned variant answers, the same every time."""
MS = 1000.0
BARE = "no server"
"""As many processes as the service has slots."""

Send = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Contenders:
    """Everything that is measured, up and warm, on one artifact."""

    arm: str
    ours: Server
    plain: Server
    image: bytes
    ask: Ask
    senders: dict[str, Send]
    """One request each, by the name in the table; `bare` is the floor."""
    limit: Limit


@contextmanager
def contenders(options: argparse.Namespace) -> Iterator[Contenders]:
    """Start the servers and connect one client to each."""
    image = photo_of_size(photos(options.photos))
    ask = Ask(options.budget_ms, variant=options.variant, backend=options.backend)
    with ExitStack() as stack:
        ours = stack.enter_context(our_server(_settings(options)))
        arm = _arm_of(ours, image, ask)
        limit = stack.enter_context(
            limit_of(arm, processes=options.slots, threads=options.threads, image=image)
        )
        flags = ("--arm", arm, "--threads", str(options.threads))
        plain = stack.enter_context(plain_server(flags))
        http = stack.enter_context(HttpClient(HOST, ours.port))
        plain_http = stack.enter_context(HttpClient(HOST, plain.port))
        grpc_client = GrpcClient(HOST, ours.grpc_port)
        stack.callback(grpc_client.close)
        bare = open_bare(arm, threads=options.threads)
        stack.callback(bare.backend.close)
        senders: dict[str, Send] = {
            "bare": lambda: bare.classify(image),
            "mnv4serve HTTP": lambda: http.classify(image, ask),
            "mnv4serve gRPC": lambda: grpc_client.classify(image, ask),
            "Starlette": lambda: plain_http.classify(image, ask),
        }
        yield Contenders(arm, ours, plain, image, ask, senders, limit)


def _arm_of(server: Server, image: bytes, ask: Ask) -> str:
    """What the pins lead to."""
    with HttpClient(HOST, server.port) as client:
        arm = client.classify(image, ask).arm
    if not arm:
        raise SystemExit(f"{ask.variant} on {ask.backend} was not served")
    return arm


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """The same threads a job for all, two jobs at once as two cores allow, every arm resident."""
    pool = {"device": "cpu", "slots": options.slots, "threads": options.threads}
    return {
        "MNV4SERVE_POOLS": json.dumps([pool]),
        "MNV4SERVE_MAX_ARMS": "64",
        "MNV4SERVE_MEMORY_LIMIT_BYTES": str(4 << 30),
    }


def one_at_a_time(senders: dict[str, Send], *, rounds: int, requests: int) -> dict[str, Any]:
    """Median latency of each contender, and of its difference to the floor round by round."""
    by_name: dict[str, list[float]] = {name: [] for name in senders}
    for place in range(rounds):
        names = list(senders) if place % 2 else list(reversed(senders))
        for name in names:
            by_name[name].append(_median_ms(senders[name], requests))
    floor = by_name["bare"]
    return {
        name: {
            "p50_ms": round(statistics.median(medians), 3),
            "over_bare_ms": round(
                statistics.median(m - f for m, f in zip(medians, floor, strict=True)), 3
            ),
            "rounds_ms": [round(median, 3) for median in medians],
        }
        for name, medians in by_name.items()
    }


def _median_ms(send: Send, requests: int) -> float:
    for _ in range(WARM_UP):
        send()
    took_ms = []
    gc.disable()
    for _ in range(requests):
        start = time.perf_counter()
        send()
        took_ms.append((time.perf_counter() - start) * MS)
    gc.enable()
    return statistics.median(took_ms)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of load on one server, with what it cost the server."""

    load: Throughput
    cpu_ms: float | None
    """Processor time of the server a request, little disturbed by what else the machine does."""


def at_once(found: Contenders, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Requests a second for eight callers, contenders taking turns."""
    runs: dict[str, list[Round]] = {}
    for _ in range(rounds):
        runs.setdefault(BARE, []).append(Round(found.limit.run(seconds), None))
        for name, run, server, port in (
            ("mnv4serve HTTP", http_throughput, found.ours, found.ours.port),
            ("mnv4serve gRPC", grpc_throughput, found.ours, found.ours.grpc_port),
            ("Starlette", http_throughput, found.plain, found.plain.port),
        ):
            before_ms = _cpu_ms(server)
            load = run(port, found.image, found.ask, callers=CALLERS, seconds=seconds)
            cpu_ms = (_cpu_ms(server) - before_ms) / max(1, load.requests)
            runs.setdefault(name, []).append(Round(load, cpu_ms))
    return {name: _middle(many) for name, many in runs.items()}


def _cpu_ms(server: Server) -> float:
    used = server.process.cpu_times()
    return float(used.user + used.system) * MS


def _middle(runs: list[Round]) -> dict[str, Any]:
    middle = statistics.median_low([run.load.per_s for run in runs])
    chosen = next(run.load for run in runs if run.load.per_s == middle)
    return asdict(chosen) | {
        "failed": sum(run.load.failed for run in runs),
        "cpu_ms": _median([run.cpu_ms for run in runs if run.cpu_ms is not None]),
        "rounds_per_s": [round(run.load.per_s, 1) for run in runs],
    }


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with contenders(options) as found:
        latency = one_at_a_time(found.senders, rounds=options.rounds, requests=options.requests)
        throughput = at_once(found, rounds=options.load_rounds, seconds=options.seconds)
        ours_per_s = throughput["mnv4serve HTTP"]["per_s"]
        return {
            "arm": found.arm,
            "photo_bytes": len(found.image),
            "slots": options.slots,
            "threads": options.threads,
            "one_at_a_time": latency,
            "eight_at_once": throughput,
            "ratio_to_starlette": round(ours_per_s / throughput["Starlette"]["per_s"], 3),
            "share_of_limit": round(ours_per_s / throughput[BARE]["per_s"], 3),
            "rss_bytes": found.ours.process.memory_info().rss,
        }


def show(found: dict[str, Any]) -> None:
    rows = [
        (name, line["p50_ms"], line["over_bare_ms"])
        for name, line in found["one_at_a_time"].items()
    ]
    title = f"One at a time: {found['arm']}, {found['photo_bytes'] / 1000:.0f} kB photo (ms)"
    report.table(title, ("", "p50", "over bare"), rows)
    columns = ("", "requests/s", "p50", "p99", "failed", "CPU ms each", "client")
    keys = ("per_s", "p50_ms", "p99_ms", "failed", "cpu_ms", "client")
    lines = found["eight_at_once"].items()
    loads = [
        (name, *("" if line[key] is None else line[key] for key in keys)) for name, line in lines
    ]
    report.table(f"{CALLERS} callers at once", columns, loads)
    report.console.print(
        f"over HTTP {found['ratio_to_starlette']:.2f} times the requests a second of Starlette, "
        f"{found['share_of_limit']:.0%} of what {found['slots']} processes do without any server"
    )


def parser() -> argparse.ArgumentParser:
    flags = command_line("loadtests.overhead", __doc__)
    flags.add_argument(
        "--variant", default="conv_small@224", help="what all run; default %(default)s"
    )
    flags.add_argument("--backend", default="cpu", help="default %(default)s")
    flags.add_argument(
        "--budget-ms", type=positive, default=TIGHT_MS, help="of every request; default %(default)s"
    )
    flags.add_argument("--slots", type=count, default=2, help="jobs at a time; default %(default)s")
    flags.add_argument("--threads", type=count, default=1, help="of each job; default %(default)s")
    flags.add_argument(
        "--rounds", type=count, default=20, help="of one caller; default %(default)s"
    )
    flags.add_argument("--requests", type=count, default=30, help="a round; default %(default)s")
    flags.add_argument(
        "--load-rounds", type=count, default=3, help="of 8 callers; default %(default)s"
    )
    flags.add_argument(
        "--seconds", type=positive, default=4.0, help="a round of load; default %(default)s"
    )
    add_photos(flags)
    return flags


def main() -> None:
    found = measure(parser().parse_args())
    show(found)
    report.save("overhead", found)


if __name__ == "__main__":
    main()
