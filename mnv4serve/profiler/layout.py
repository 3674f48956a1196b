"""How many jobs at a time on how many threads each; and how many cores there are to divide."""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnv4serve.profiler.timing import MS_PER_S, Clock, summarise

ROUNDS = 3
_TIE = 0.05
"""Throughputs this close are taken as equal; then the lower latency decides."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Jobs executed at the same time and the threads of each."""

    slots: int
    threads: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one layout achieved in its least disturbed round."""

    layout: Layout
    jobs_per_s: float
    p50_ms: float


Jobs = Sequence[Callable[[], object]]
"""One real job per slot, decode and inference together."""


def layouts(grant: int) -> tuple[Layout, ...]:
    """All ways of giving every core of the grant to one slot, most slots first."""
    return tuple(
        Layout(slots, grant // slots) for slots in range(grant, 0, -1) if grant % slots == 0
    )


def choose_layout(
    candidates: Sequence[Layout],
    *,
    open_jobs: Callable[[Layout], Jobs],
    seconds: float,
    clock: Clock = time.perf_counter,
) -> tuple[Layout, tuple[Throughput, ...]]:
    """The layout with the highest throughput, and what each one achieved.

    Rounds are interleaved so that a disturbance does not hit one layout alone.
    """
    opened = {layout: open_jobs(layout) for layout in candidates}
    rounds = [
        Throughput(layout, *run_side_by_side(jobs, seconds=seconds / ROUNDS, clock=clock))
        for _ in range(ROUNDS)
        for layout, jobs in opened.items()
    ]
    best = tuple(
        max((r for r in rounds if r.layout == layout), key=lambda r: r.jobs_per_s)
        for layout in opened
    )
    return pick(best), best


def pick(achieved: Sequence[Throughput]) -> Layout:
    """Highest throughput; among equals the lowest latency."""
    highest = max(one.jobs_per_s for one in achieved)
    equals = [one for one in achieved if one.jobs_per_s >= highest * (1.0 - _TIE)]
    return min(equals, key=lambda one: one.p50_ms).layout


def run_side_by_side(
    jobs: Jobs, *, seconds: float, clock: Clock = time.perf_counter
) -> tuple[float, float]:
    """Jobs per second and the median latency of jobs repeated in one thread each."""
    ready = threading.Barrier(len(jobs))
    spans: list[list[tuple[float, float]]] = [[] for _ in jobs]

    def repeat(job: Callable[[], object], spans_s: list[tuple[float, float]]) -> None:
        job()
        ready.wait()
        started_s = now_s = clock()
        while now_s - started_s < seconds or not spans_s:
            job()
            before_s, now_s = now_s, clock()
            spans_s.append((before_s, now_s))

    threads = [threading.Thread(target=repeat, args=pair) for pair in zip(jobs, spans, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [span for one in spans for span in one]
    length_s = max(end for _, end in every) - min(start for start, _ in every)
    latencies = [(end - start) * MS_PER_S for start, end in every]
    return len(every) / max(length_s, 1e-9), summarise(latencies, quick=True).p50_ms


def cpu_grant(
    configured: int | None = None, *, ray_cpus: float | None = None, root: Path = Path("/")
) -> int:
    """Cores this process may use: the smallest of all limits, at least one.

    Configuration, the `num_cpus` of its Ray actor, the cgroup's quota and the affinity.
    """
    limits = [float(_affinity())]
    limits += [limit for limit in (configured, ray_cpus, _quota(root)) if limit is not None]
    return max(1, math.floor(min(limits)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path) -> float | None:
    """Cores by the CPU controller of cgroup v2 or v1, the tightest one up to the root."""
    quotas = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            quotas.append(_v1(folder) if controllers else _v2(folder))
            if folder == mount:
                break
    known = [quota for quota in quotas if quota is not None]
    return min(known) if known else None


def _v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _v1(folder: Path) -> float | None:
    quota = _text(folder / "cpu.cfs_quota_us").strip()
    period = _text(folder / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
