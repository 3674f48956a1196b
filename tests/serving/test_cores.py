"""Behaviour of mnv4serve.serving.cores."""

import os
from threading import Thread

import pytest

from mnv4serve.serving.cores import shares, stay_on

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="threads are kept on cores on Linux"
)


@pytest.fixture
def six_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7, 8, 9})


@pytest.mark.usefixtures("six_cores")
def test_slots_that_take_every_core_have_their_own() -> None:
    """As many for each as it has threads, none twice."""
    assert shares(slots=6, threads=1) == tuple(map(frozenset, ([2], [3], [5], [7], [8], [9])))
    assert shares(slots=2, threads=3) == (frozenset({2, 3, 5}), frozenset({7, 8, 9}))


@pytest.mark.usefixtures("six_cores")
@pytest.mark.parametrize(("slots", "threads"), [(2, 1), (1, 5), (8, 1)])
def test_slots_that_leave_cores_to_others_stay_free(slots: int, threads: int) -> None:
    """Two processes with a part of the cores each would otherwise meet on the first ones."""
    assert shares(slots=slots, threads=threads) == ()


def test_only_the_calling_thread_is_kept() -> None:
    """The rest of the process goes where it likes."""
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []

    def run() -> None:
        stay_on({min(before)})
        seen.append(os.sched_getaffinity(0))

    thread = Thread(target=run)
    thread.start()
    thread.join()

    assert seen == [{min(before)}]
    assert os.sched_getaffinity(0) == before


def test_cores_that_are_gone_leave_the_thread_free() -> None:
    """A container may shrink between measuring and serving."""
    before = os.sched_getaffinity(0)

    stay_on({10_000})

    assert os.sched_getaffinity(0) == before
