"""Behaviour of mnv4serve.profiler.layout."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mnv4serve.profiler.layout import (
    Jobs,
    Layout,
    Throughput,
    choose_layout,
    cpu_grant,
    layouts,
    pick,
    run_side_by_side,
)

ONE_BY_TWO, TWO_BY_ONE = Layout(slots=1, threads=2), Layout(slots=2, threads=1)


def test_layouts_use_every_core() -> None:
    """All divisions of the grant into equal slots."""
    assert layouts(1) == (Layout(1, 1),)
    assert layouts(2) == (TWO_BY_ONE, ONE_BY_TWO)
    assert layouts(6) == (Layout(6, 1), Layout(3, 2), Layout(2, 3), Layout(1, 6))


def test_the_higher_throughput_wins() -> None:
    """Even where a single job takes longer."""
    achieved = (Throughput(TWO_BY_ONE, 540.0, 3.7), Throughput(ONE_BY_TWO, 326.0, 3.1))

    assert pick(achieved) == TWO_BY_ONE


def test_latency_decides_between_equals() -> None:
    """Within a few percent of throughput the faster job is worth more."""
    achieved = (Throughput(TWO_BY_ONE, 540.0, 3.7), Throughput(ONE_BY_TWO, 530.0, 1.9))

    assert pick(achieved) == ONE_BY_TWO


def test_jobs_run_side_by_side() -> None:
    """Each job has a thread of its own, and both are running at the same time."""
    meeting = threading.Barrier(2, timeout=10)
    names: set[str] = set()

    def job() -> None:
        names.add(threading.current_thread().name)
        meeting.wait()  # would break if the jobs took turns in one thread

    jobs_per_s, p50_ms = run_side_by_side([job, job], seconds=0.0)

    assert len(names) == 2
    assert jobs_per_s > 0
    assert p50_ms >= 0


def test_throughput_counts_all_slots_in_the_clocks_time() -> None:
    """A single job of 10 ms gives 100 jobs a second and a median of 10 ms."""
    now_s = [0.0]

    def job() -> None:
        now_s[0] += 0.01

    jobs_per_s, p50_ms = run_side_by_side([job], seconds=0.5, clock=lambda: now_s[0])

    assert jobs_per_s == pytest.approx(100.0)
    assert p50_ms == pytest.approx(10.0)


def test_every_choice_is_opened_once_and_run() -> None:
    """Measuring reports each layout, whichever wins."""
    opened: list[Layout] = []

    def open_jobs(layout: Layout) -> Jobs:
        opened.append(layout)
        return [lambda: None] * layout.slots

    chosen, achieved = choose_layout(layouts(2), open_jobs=open_jobs, seconds=0.01)

    assert opened == list(layouts(2))
    assert [one.layout for one in achieved] == list(layouts(2))
    assert chosen in layouts(2)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def v2(root: Path, quota: str, *, parent: str = "max 100000") -> None:
    write(root / "proc/self/cgroup", "0::/kubepods/pod\n")
    write(root / "sys/fs/cgroup/kubepods/pod/cpu.max", quota)
    write(root / "sys/fs/cgroup/kubepods/cpu.max", parent)


def v1(root: Path, quota_us: int) -> None:
    write(root / "proc/self/cgroup", "9:memory:/pod\n4:cpu,cpuacct:/pod\n")
    write(root / "sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us", str(quota_us))
    write(root / "sys/fs/cgroup/cpu/pod/cpu.cfs_period_us", "100000")


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda root: v2(root, "300000 100000"), 3),
        (lambda root: v2(root, "250000 100000"), 2),
        (lambda root: v2(root, "20000 100000"), 1),
        (lambda root: v2(root, "max 100000"), 8),
        (lambda root: v2(root, "max 100000", parent="200000 100000"), 2),
        (lambda root: v1(root, 300000), 3),
        (lambda root: v1(root, -1), 8),
        (lambda _: None, 8),
    ],
    ids=("v2", "fraction", "below-one", "unlimited", "parent", "v1", "v1-unlimited", "none"),
)
def test_the_cgroup_limits_the_grant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], None],
    expected: int,
) -> None:
    """Quotas of both cgroup versions count, also those of parents, rounded down to one core."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    prepare(tmp_path)

    assert cpu_grant(root=tmp_path) == expected


def test_the_smallest_limit_is_the_grant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration, Ray's share and the affinity bound each other."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)

    assert cpu_grant(2, root=tmp_path) == 2
    assert cpu_grant(16, root=tmp_path) == 4
    assert cpu_grant(3, ray_cpus=1.5, root=tmp_path) == 1
