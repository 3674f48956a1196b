"""Cores of their own for slots: a slot that is woken must not queue behind another's run."""

import os
from collections.abc import Collection


def shares(*, slots: int, threads: int) -> tuple[frozenset[int], ...]:
    """The cores of each slot; none where the slots do not take all that this process may use.

    With fewer slots than cores the kernel finds an idle one, and other processes, which count from
    the first core as well, would meet on it.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    if slots * threads != len(cores):
        return ()
    return tuple(
        frozenset(cores[first : first + threads]) for first in range(0, len(cores), threads)
    )


def stay_on(cores: Collection[int]) -> None:
    """Keep the calling thread on these cores; it stays free where they are gone meanwhile."""
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        return
