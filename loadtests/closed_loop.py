"""Closed-loop load: so many callers, each waiting for its answer before it asks again.

Good for "how many requests a second can it do", misleading for latency under load: for that
there is the open loop. wrk is used where it is installed, because on few cores the client's own
cost counts; without it, clients of ours.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.aio import Client, GrpcClient, HttpClient
from loadtests.asks import Ask
from loadtests.report import percentiles
from loadtests.servers import HOST

SCRIPT = Path(__file__).with_name("post.lua")
MS = 1000.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a number of callers got out of a server."""

    client: str
    """`wrk` or `asyncio`: never compare numbers of different clients."""
    per_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    failed: int


def http_throughput(
    port: int, image: bytes, ask: Ask, *, callers: int, seconds: float
) -> Throughput:
    """Requests a second over HTTP."""
    if shutil.which("wrk"):
        url = f"http://{HOST}:{port}/classify{ask.query()}"
        headers = {"Content-Type": "image/jpeg"}
        return wrk(url, image, headers=headers, callers=callers, seconds=seconds)
    work = load(HttpClient(HOST, port), image, ask, callers=callers, seconds=seconds)
    return asyncio.run(work)


def grpc_throughput(
    port: int, image: bytes, ask: Ask, *, callers: int, seconds: float
) -> Throughput:
    """Requests a second over gRPC, one channel for all callers."""

    async def work() -> Throughput:
        client = GrpcClient(HOST, port)
        return await load(client, image, ask, callers=callers, seconds=seconds)

    return asyncio.run(work())


def wrk(
    url: str, body: bytes, *, headers: Mapping[str, str], callers: int, seconds: float
) -> Throughput:
    """Post one body again and again; whole seconds, one at least."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        command = [
            *("wrk", "--threads", "1", "--connections", str(callers)),
            *("--duration", f"{max(1, round(seconds))}s", "--script", str(SCRIPT)),
            url,
        ]
        lines = "\n".join(f"{name}: {value}" for name, value in headers.items())
        environment = os.environ | {"BODY": file.name, "HEADERS": lines}
        printed = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout
    line = next(line for line in printed.splitlines() if line.startswith("RESULT"))
    requests, failed, lasted_us, p50_ms, p99_ms = map(float, line.split()[1:])
    per_s = requests / (lasted_us / 1e6)
    return Throughput("wrk", per_s, p50_ms, p99_ms, int(requests), int(failed))


async def load(
    client: Client, image: bytes, ask: Ask, *, callers: int, seconds: float
) -> Throughput:
    """What a number of callers get out of a client that answers many at a time."""
    start = time.perf_counter()
    runs = [_caller(client, image, ask, until=start + seconds) for _ in range(callers)]
    ended = [one for many in await asyncio.gather(*runs) for one in many]
    lasted_s = time.perf_counter() - start
    await client.close()
    ranked = percentiles([latency_ms for _, latency_ms in ended])
    outcomes = Counter(outcome for outcome, _ in ended)
    failed = len(ended) - outcomes["on_time"] - outcomes["late"]
    return Throughput(
        "asyncio", len(ended) / lasted_s, ranked["p50"], ranked["p99"], len(ended), failed
    )


async def _caller(
    client: Client, image: bytes, ask: Ask, *, until: float
) -> Sequence[tuple[str, float]]:
    ended = []
    while (sent := time.perf_counter()) < until:
        answer = await client.classify(image, ask)
        ended.append((answer.outcome, (time.perf_counter() - sent) * MS))
    return ended
