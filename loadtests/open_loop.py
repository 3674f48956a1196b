"""Open-loop load: send times are fixed in advance and latency counts from the scheduled one.

A generator that waits for answers before it sends again slows down with the server and hides
what callers would have felt (coordinated omission). This one does not wait.

    python -m loadtests.open_loop --rate 100 --requests 2000 --arrivals poisson

Asks the server that `make serve` has started, with budgets of 5, 10, 30 and 100 ms.
"""

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests import report
from loadtests.aio import Client, GrpcClient, HttpClient, precise_loop
from loadtests.asks import REFUSE_SHARE, Answer, Ask, mixed, only_loopback, photos
from loadtests.flags import add_photos, add_server, command_line, count, positive, reached

ARRIVALS = ("constant", "poisson", "gamma")
MAX_REQUESTS, MAX_SECONDS = 100_000, 600.0
WARM_CONNECTIONS = 16
MS = 1000.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One request: when it was due, what it asked, how it ended."""

    ask: Ask
    answer: Answer
    lag_ms: float
    """How late the generator itself sent it; it counts into the latency."""
    latency_ms: float


def schedule(
    arrivals: str, *, rate: float, requests: int, seed: int, cv: float = 2.0
) -> NDArray[np.float64]:
    """Send times in seconds from the start; `cv` is the spread of the gaps of `gamma`."""
    rng = np.random.default_rng(seed)
    match arrivals:
        case "constant":
            gaps = np.full(requests, 1.0 / rate)
        case "poisson":
            gaps = rng.exponential(1.0 / rate, requests)
        case "gamma":
            gaps = rng.gamma(1.0 / cv**2, cv**2 / rate, requests)
        case _:
            raise ValueError(f"unknown arrivals {arrivals!r}; there are {', '.join(ARRIVALS)}")
    return np.cumsum(gaps)


async def fire(
    client: Client,
    due_s: Sequence[float],
    pictures: Sequence[bytes],
    *,
    seed: int,
    refuse_share: float = REFUSE_SHARE,
) -> list[Shot]:
    """Send every request at its time, whatever became of those before."""
    rng = random.Random(seed)
    asks = mixed(rng, refuse_share=refuse_share)
    start = time.perf_counter() + 0.05
    tasks: list[asyncio.Task[Shot]] = []
    for offset in due_s:
        due = start + offset
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        shot = _shoot(client, rng.choice(pictures), next(asks), due=due)
        tasks.append(asyncio.create_task(shot))
    return await asyncio.gather(*tasks)


async def _shoot(client: Client, image: bytes, ask: Ask, *, due: float) -> Shot:
    lag_ms = (time.perf_counter() - due) * MS
    answer = await client.classify(image, ask)
    return Shot(ask, answer, lag_ms, (time.perf_counter() - due) * MS)


def summary(shots: Sequence[Shot]) -> dict[str, object]:
    """What a run came to, ready for JSON."""
    budgets = sorted({shot.ask.budget_ms or 0.0 for shot in shots})
    answered = [shot for shot in shots if shot.answer.arm]
    return {
        "requests": len(shots),
        "latency_ms": report.percentiles([shot.latency_ms for shot in answered]),
        "generator_lag_ms": report.percentiles([shot.lag_ms for shot in shots]),
        "outcomes": dict(Counter(shot.answer.outcome for shot in shots)),
        "arms": dict(Counter(shot.answer.arm for shot in answered).most_common()),
        "budgets": [
            _by_budget([shot for shot in shots if shot.ask.budget_ms == budget], budget)
            for budget in budgets
        ],
    }


def _by_budget(shots: Sequence[Shot], budget_ms: float) -> dict[str, object]:
    """`on_time_share` is what the service says, `within_budget_share` what the caller saw."""
    answered = [shot for shot in shots if shot.answer.arm]
    return {
        "budget_ms": budget_ms,
        "requests": len(shots),
        "on_time_share": sum(s.answer.outcome == "on_time" for s in shots) / len(shots),
        "within_budget_share": sum(s.latency_ms <= budget_ms for s in answered) / len(shots),
        "latency_ms": report.percentiles([shot.latency_ms for shot in answered]),
    }


async def run(options: argparse.Namespace) -> list[Shot]:
    """One run as the flags say, bounded in count and time."""
    due_s = schedule(
        options.arrivals,
        rate=options.rate,
        requests=min(options.requests, MAX_REQUESTS),
        seed=options.seed,
        cv=options.cv,
    )
    due_s = due_s[due_s <= min(options.seconds, MAX_SECONDS)]
    host = only_loopback(options.host)
    with reached(host, options.grpc_port if options.protocol == "grpc" else options.port):
        client = await _connected(host, options)
        try:
            return await fire(client, due_s.tolist(), photos(options.photos), seed=options.seed)
        finally:
            await client.close()


async def _connected(host: str, options: argparse.Namespace) -> Client:
    if options.protocol == "grpc":
        client: Client = GrpcClient(host, options.grpc_port)
        await client.classify(photos(options.photos)[0], Ask())
        return client
    http = HttpClient(host, options.port)
    await http.open(WARM_CONNECTIONS)
    return http


def parser() -> argparse.ArgumentParser:
    flags = command_line("loadtests.open_loop", __doc__)
    add_server(flags)
    protocols = ("http", "grpc")
    flags.add_argument("--protocol", choices=protocols, default="http", help="default %(default)s")
    flags.add_argument(
        "--arrivals", choices=ARRIVALS, default="poisson", help="default %(default)s"
    )
    flags.add_argument(
        "--cv",
        type=positive,
        default=2.0,
        help="spread of gamma's gaps over their mean; default %(default)s",
    )
    flags.add_argument(
        "--rate", type=positive, default=50.0, help="requests a second; default %(default)s"
    )
    flags.add_argument("--requests", type=count, default=1000, help="at most; default %(default)s")
    flags.add_argument(
        "--seconds", type=positive, default=60.0, help="at most; default %(default)s"
    )
    flags.add_argument("--seed", type=int, default=0, help="of send times, budgets and photos")
    add_photos(flags)
    return flags


def main() -> None:
    options = parser().parse_args()
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        shots = runner.run(run(options))
    found = summary(shots)
    report.show_open_loop(f"{options.arrivals}, {options.rate:g}/s, {options.protocol}", found)
    report.save("open-loop", found | {"flags": vars(options)})


if __name__ == "__main__":
    main()
