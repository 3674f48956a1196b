"""Decode + inference in as many processes as there are slots: what the cores can do at most."""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from loadtests.bare import Bare, open_bare
from loadtests.closed_loop import Throughput
from loadtests.report import percentiles

MS = 1000.0
WARM_UP_S = 1.0
_opened: dict[str, Bare] = {}
"""In a worker: the arm it has loaded."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Processes that hold one arm each and do nothing until asked."""

    workers: ProcessPoolExecutor
    processes: int
    arm: str
    threads: int
    image: bytes

    def run(self, seconds: float) -> Throughput:
        """All processes at once, each on the same photo again and again."""
        asked = [
            self.workers.submit(_work, self.arm, self.threads, self.image, seconds)
            for _ in range(self.processes)
        ]
        took_ms = [future.result() for future in asked]
        ranked = percentiles([one for many in took_ms for one in many])
        per_s = sum(len(many) / (sum(many) / MS) for many in took_ms)
        done = sum(len(many) for many in took_ms)
        return Throughput("none", per_s, ranked["p50"], ranked["p99"], done, 0)


@contextmanager
def limit_of(arm: str, *, processes: int, threads: int, image: bytes) -> Iterator[Limit]:
    """Start the processes and load the arm in each of them."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as workers:
        limit = Limit(workers, processes, arm, threads, image)
        limit.run(WARM_UP_S)
        yield limit


def _work(arm: str, threads: int, image: bytes, seconds: float) -> list[float]:
    if arm not in _opened:
        _opened[arm] = open_bare(arm, threads=threads)
    bare = _opened[arm]
    took_ms = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        bare.classify(image)
        took_ms.append((time.perf_counter() - start) * MS)
    return took_ms
