"""What the ray engine costs on this machine, beside the same work bare and in the local engine.

    python -m loadtests.ray_overhead

Two clusters, one after the other. The first has a colocated pool and one a hop away: latency of an
empty-handed request (refused at admission, after the whole way in), of colocated work and of the
hop. The second has one colocated pool with every arm resident: eight callers beside the local
engine, and how many requests of each arm are within 5 ms. Contenders take turns within one run;
compare the ratios and differences of one run, never numbers of two.
"""

import argparse
import json
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from loadtests import report
from loadtests.asks import Ask, photo_of_size, photos
from loadtests.bare import open_bare
from loadtests.blocking import GrpcClient, HttpClient, http_request
from loadtests.closed_loop import Throughput, grpc_throughput, http_throughput
from loadtests.flags import add_photos, command_line, count, positive
from loadtests.overhead import TIGHT_MS, Send, one_at_a_time
from loadtests.servers import HOST, Server, our_server

CALLERS = 8
WITHIN_MS = 5.0
EMPTY_BYTES = 50_000
EMPTY = Ask(budget_ms=0.01, on_miss="refuse")
"""Impossible on any arm: body, header and plan, then the refusal."""
SETTLE_S = 3.0
"""HAProxy reloads once more after the first replica is up and closes idle connections."""
MS = 1000.0
ONE_CORE = {"device": "cpu", "cpus": 1, "slots": 1, "threads": 1}
HOP = (
    ONE_CORE | {"backends": ["cpu"]},
    ONE_CORE | {"name": "far", "backends": ["onnx"], "placement": "deployment"},
)
BOTH_CORES = (ONE_CORE | {"cpus": 2, "slots": 2},)
REPLICA = "ray::ServeReplica:mnv4serve:"


@dataclass(frozen=True, slots=True)
class Started:
    """A running service and the seconds until it was ready."""

    server: Server
    ready_s: float


@contextmanager
def started(engine: str, pools: object) -> Iterator[Started]:
    """`mnv4serve serve` with these pools and every arm resident."""
    settings = {
        "MNV4SERVE_POOLS": json.dumps(pools),
        "MNV4SERVE_MAX_ARMS": "64",
        "MNV4SERVE_MEMORY_LIMIT_BYTES": str(4 << 30),
        "MNV4SERVE_RAY": json.dumps({"metrics_port": quiet_port()}),
    }
    begun = time.perf_counter()
    ports = (quiet_port(), quiet_port())
    with our_server(settings, ("--engine", engine), ports=ports) as server:
        ready_s = time.perf_counter() - begun
        time.sleep(SETTLE_S)
        yield Started(server, ready_s)


def quiet_port() -> int:
    """Free, and below the ports that systems hand out, of which Ray takes dozens meanwhile."""
    for port in random.sample(range(20_000, 29_000), 50):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                return port
    raise SystemExit("no free port between 20000 and 29000")


def memory_mb() -> dict[str, float]:
    """Resident memory of every replica, in megabytes, by deployment."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or ())
        if title.startswith(REPLICA):
            found[title.removeprefix(REPLICA).strip()] = process.memory_info().rss / 1e6
    return {name: round(rss, 1) for name, rss in sorted(found.items())}


@contextmanager
def connected(server: Server) -> Iterator[tuple[HttpClient, GrpcClient]]:
    with HttpClient(HOST, server.port) as http:
        grpc_client = GrpcClient(HOST, server.grpc_port)
        try:
            yield http, grpc_client
        finally:
            grpc_client.close()


def outside_the_work(http: HttpClient, request: bytes) -> float:
    """Milliseconds of one request that were neither wait nor decoding nor inference."""
    sent = time.perf_counter()
    status, body = http.exchange(request)
    took_ms = (time.perf_counter() - sent) * MS
    if status != 200:  # noqa: PLR2004
        raise SystemExit(f"a request of the measurement was answered with {status}")
    stages: dict[str, float] = json.loads(body)["latency_ms"]
    return took_ms - stages["wait"] - stages["decode"] - stages["service"]


def hop_ms(http: HttpClient, image: bytes, variant: str, *, rounds: int, requests: int) -> float:
    """What the far pool's answers take beside the work, over what the near one's do."""
    asks = [Ask(TIGHT_MS, variant=variant, backend=backend) for backend in ("cpu", "onnx")]
    near, far = (http_request(HOST, image, ask) for ask in asks)
    differences = []
    for _ in range(rounds):
        medians = [
            statistics.median(outside_the_work(http, one) for _ in range(requests))
            for one in (near, far)
        ]
        differences.append(medians[1] - medians[0])
    return statistics.median(differences)


def one_hop(options: argparse.Namespace, image: bytes, empty: bytes) -> dict[str, Any]:
    """Latencies one at a time, with a colocated pool and one a hop away."""
    ask = Ask(TIGHT_MS, variant=options.variant, backend="cpu")
    with ExitStack() as stack:
        local = stack.enter_context(started("local", HOP[:1])).server
        ray = stack.enter_context(started("ray", HOP))
        local_http, local_grpc = stack.enter_context(connected(local))
        http, grpc_client = stack.enter_context(connected(ray.server))
        bare = open_bare(http.classify(image, ask).arm, threads=1)
        stack.callback(bare.backend.close)
        senders: dict[str, Send] = {
            "bare": lambda: bare.classify(image),
            "local HTTP": lambda: local_http.classify(image, ask),
            "local gRPC": lambda: local_grpc.classify(image, ask),
            "ray HTTP": lambda: http.classify(image, ask),
            "ray gRPC": lambda: grpc_client.classify(image, ask),
            "ray HTTP, empty-handed": lambda: http.classify(empty, EMPTY),
            "ray gRPC, empty-handed": lambda: grpc_client.classify(empty, EMPTY),
        }
        turns = {"rounds": options.rounds, "requests": options.requests}
        latency = one_at_a_time(senders, **turns)
        hop = hop_ms(http, image, options.variant, **turns)
        return {
            "photo_bytes": len(image),
            "empty_photo_bytes": len(empty),
            "latency": latency,
            "hop_ms": round(hop, 3),
            "ready_s": round(ray.ready_s, 1),
            "replicas_mb": memory_mb(),
        }


def both_cores(options: argparse.Namespace, image: bytes) -> dict[str, Any]:
    """Eight callers beside the local engine, then every arm on its own."""
    ask = Ask(TIGHT_MS, variant=options.variant, backend="cpu")
    with ExitStack() as stack:
        local = stack.enter_context(started("local", BOTH_CORES)).server
        ray = stack.enter_context(started("ray", BOTH_CORES))
        contenders: dict[str, Callable[[], Throughput]] = {
            "local HTTP": lambda: _load(http_throughput, local.port, image, ask, options),
            "ray HTTP": lambda: _load(http_throughput, ray.server.port, image, ask, options),
            "local gRPC": lambda: _load(grpc_throughput, local.grpc_port, image, ask, options),
            "ray gRPC": lambda: _load(grpc_throughput, ray.server.grpc_port, image, ask, options),
        }
        runs: dict[str, list[Throughput]] = {name: [] for name in contenders}
        for _ in range(options.load_rounds):
            for name, run in contenders.items():
                runs[name].append(run())
        within = within_budget(ray.server, image, requests=options.requests)
        return {
            "per_s": {name: _middle(many) for name, many in runs.items()},
            "failed": {name: sum(run.failed for run in many) for name, many in runs.items()},
            "client": runs["ray HTTP"][0].client,
            "within_5_ms": within,
            "arms": len(within),
            "ready_s": round(ray.ready_s, 1),
            "replicas_mb": memory_mb(),
        }


def _middle(many: Sequence[Throughput]) -> float:
    return round(statistics.median(run.per_s for run in many), 1)


def _load(
    run: Callable[..., Throughput], port: int, image: bytes, ask: Ask, options: argparse.Namespace
) -> Throughput:
    return run(port, image, ask, callers=CALLERS, seconds=options.seconds)


def within_budget(server: Server, image: bytes, *, requests: int) -> dict[str, Any]:
    """By arm that answered: how many requests pinned to its variant took 5 ms at most."""
    arms = [arm for arm in json.loads(server.get("/frontier"))["arms"] if arm["resident"]]
    pins = sorted({(arm["variant"], arm["backend"]) for arm in arms})
    found: dict[str, list[float]] = {}
    with HttpClient(HOST, server.port) as http:
        for variant, backend in pins:
            ask = Ask(TIGHT_MS, variant=variant, backend=backend)
            for _ in range(requests):
                sent = time.perf_counter()
                answer = http.classify(image, ask)
                found.setdefault(answer.arm, []).append((time.perf_counter() - sent) * MS)
    return {arm: _share(took_ms) for arm, took_ms in sorted(found.items()) if arm}


def _share(took_ms: list[float]) -> dict[str, float]:
    within = sum(one <= WITHIN_MS for one in took_ms) / len(took_ms)
    return {"share": round(within, 3), "p50_ms": round(statistics.median(took_ms), 3)}


def show_one_hop(found: Mapping[str, Any]) -> None:
    rows = [(name, line["p50_ms"], line["over_bare_ms"]) for name, line in found["latency"].items()]
    title = f"One at a time: {found['photo_bytes'] / 1000:.0f} kB photo (ms)"
    report.table(title, ("", "p50", "over bare"), rows)
    report.console.print(f"one hop more: {found['hop_ms']:.2f} ms")


def show_both_cores(found: Mapping[str, Any]) -> None:
    loads = [(name, per_s, found["failed"][name]) for name, per_s in found["per_s"].items()]
    report.table(f"{CALLERS} callers at once", ("", "requests/s", "failed"), loads)
    lines = found["within_5_ms"].items()
    shares = [(arm, f"{line['share']:.0%}", line["p50_ms"]) for arm, line in lines]
    report.table("Within 5 ms, one caller", ("arm", "share", "p50"), shares)


def show_start(found: Mapping[str, Any]) -> None:
    memory = ", ".join(f"{who} {mb:.0f}" for who, mb in found["replicas_mb"].items())
    report.console.print(f"ready after {found['ready_s']:.1f} s; memory in MB: {memory}")


def parser() -> argparse.ArgumentParser:
    flags = command_line("loadtests.ray_overhead", __doc__)
    flags.add_argument(
        "--variant", default="conv_small@224", help="what all run; default %(default)s"
    )
    flags.add_argument(
        "--rounds", type=count, default=20, help="of one caller; default %(default)s"
    )
    flags.add_argument(
        "--requests", type=count, default=30, help="a round and arm; default %(default)s"
    )
    flags.add_argument(
        "--load-rounds", type=count, default=3, help="of 8 callers; default %(default)s"
    )
    flags.add_argument(
        "--seconds", type=positive, default=4.0, help="a round of load; default %(default)s"
    )
    add_photos(flags)
    flags.add_argument("--only", choices=("one_hop", "both_cores"), help="one of the clusters")
    return flags


def main() -> None:
    options = parser().parse_args()
    pictures = photos(options.photos)
    image, empty = photo_of_size(pictures), photo_of_size(pictures, EMPTY_BYTES)
    found: dict[str, Any] = {"variant": options.variant}
    if options.only != "both_cores":
        found["one_hop"] = one_hop(options, image, empty)
        show_one_hop(found["one_hop"])
        show_start(found["one_hop"])
    if options.only != "one_hop":
        found["both_cores"] = both_cores(options, image)
        show_both_cores(found["both_cores"])
        show_start(found["both_cores"])
    report.save("ray_overhead", found)


if __name__ == "__main__":
    main()
