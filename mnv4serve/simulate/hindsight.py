"""A stretch of a scenario as an optimiser sees it who knows everything beforehand."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mnv4serve.simulate.scenario import Offered, Scenario
from mnv4serve.simulate.truth import Truth

Floats = NDArray[np.float64]

LARGEST_EXACT = 10
"""Requests that `exact` takes at most; its time doubles with each one."""


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Requests with what they really take, and the slots of each kind, all of them one pool.

    Slots of one kind on several nodes are taken together, which allows more than any balancer
    could do. Faults that slow or stop devices are left out, which allows more as well.
    """

    release_ms: Floats
    """By request."""
    due_ms: Floats
    """[request, kind]: when a slot has to be done, the reply's cost taken off."""
    slot_ms: Floats
    """[request, column], one column for each arm of each kind."""
    accuracy: Floats
    """By column."""
    kind: NDArray[np.int64]
    """By column."""
    slots: tuple[int, ...]
    """By kind."""

    @property
    def fits(self) -> NDArray[np.bool_]:
        """[request, column]: whether an arm alone would make it."""
        room = self.due_ms - self.release_ms[:, None]
        found: NDArray[np.bool_] = self.slot_ms <= room[:, self.kind]
        return found


class Looking:
    """Cuts a scenario into stretches."""

    def __init__(self, scenario: Scenario, offered: Offered) -> None:
        self._offered = offered
        self._truth = Truth(scenario, offered)
        kinds = self._truth.kinds
        devices = scenario.cluster.devices
        self._reply_ms = np.array([kind.reply_ms for kind in kinds])
        self._kind = np.repeat(np.arange(len(kinds)), [len(kind.arms) for kind in kinds])
        self._slots = tuple(
            sum(device.slots for device in devices if device is kind) for kind in kinds
        )

    def at(self, first: int, last: int) -> Hindsight:
        """Requests `first` up to but not including `last`."""
        release_ms = self._offered.arrivals_ms[first:last]
        deadline_ms = release_ms + self._offered.budgets_ms[first:last]
        return Hindsight(
            release_ms=release_ms,
            due_ms=deadline_ms[:, None] - self._reply_ms,
            slot_ms=self._truth.table(first, last),
            accuracy=np.array([arm.accuracy or 0.0 for arm in self._truth.arms]),
            kind=self._kind,
            slots=self._slots,
        )


_Free = tuple[tuple[float, ...], ...]
"""By kind: when its slots fall free, in order."""


def exact(seen: Hindsight) -> float:
    """The largest sum of accuracies on time that any schedule without batches reaches.

    Some best schedule starts each request, in the order of the starts, on the slot of its kind that
    is free first: being earlier never hurts. So it is enough to build schedules request by
    request and keep, for each set of requests served, those that no other beats on value and on
    all slots.
    """
    n = len(seen.release_ms)
    assert n <= LARGEST_EXACT, f"{n} requests are too many"
    start: _Free = tuple((-np.inf,) * slots for slots in seen.slots)
    fronts: dict[frozenset[int], list[tuple[float, _Free]]] = {frozenset(): [(0.0, start)]}
    best = 0.0
    for _ in range(n):
        grown: dict[frozenset[int], list[tuple[float, _Free]]] = {}
        for served, front in fronts.items():
            for request, column in product(set(range(n)) - served, range(len(seen.accuracy))):
                into = grown.setdefault(served | {request}, [])
                for value, free in front:
                    _grow(into, seen, request, column, (value, free))
        best = max([best, *(value for front in grown.values() for value, _ in front)])
        fronts = grown
    return best


def _grow(
    into: list[tuple[float, _Free]],
    seen: Hindsight,
    request: int,
    column: int,
    so_far: tuple[float, _Free],
) -> None:
    """Add the schedule that serves one request more, unless another is as good in everything."""
    value, free = so_far
    kind = int(seen.kind[column])
    slots = free[kind]
    end_ms = max(slots[0], float(seen.release_ms[request])) + float(seen.slot_ms[request, column])
    if end_ms > seen.due_ms[request, kind]:
        return
    after = tuple(sorted((*slots[1:], end_ms)))
    grown = (value + float(seen.accuracy[column]), (*free[:kind], after, *free[kind + 1 :]))
    if any(_beats(other, grown) for other in into):
        return
    into[:] = [other for other in into if not _beats(grown, other)]
    into.append(grown)


def _beats(one: tuple[float, _Free], other: tuple[float, _Free]) -> bool:
    if one[0] < other[0]:
        return False
    return all(
        a <= b
        for mine, theirs in zip(one[1], other[1], strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )
