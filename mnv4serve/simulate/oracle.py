"""How well any policy could have done: an upper bound from linear programming."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.errors import SetupError
from mnv4serve.simulate.hindsight import Hindsight, Looking
from mnv4serve.simulate.scenario import Offered, Scenario, offer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WINDOW = 4000
"""Requests whose schedule is bounded together."""
FEWEST_CELLS = 64
"""Stretches that the time of a window is cut into at least; else one for two requests."""


def upper_bound(
    scenario: Scenario,
    *,
    offered: Offered | None = None,
    window: int = WINDOW,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """An effective accuracy that no policy can exceed in this scenario, clairvoyant or not.

    Windows of requests are bounded each on its own, as if all slots were theirs: what a schedule of
    the whole achieves is the sum of what it achieves for each window, and cutting every other
    window's work out of it leaves a schedule of that window. Raises SetupError without scipy.
    """
    offered = offered or offer(scenario)
    looking = Looking(scenario, offered)
    n = scenario.requests
    total = 0.0
    for first in range(0, n, window):
        last = min(first + window, n)
        total += window_bound(looking.at(first, last))
        if progress is not None:
            progress(last, n)
    return total / n


def window_bound(seen: Hindsight, *, cells: int | None = None) -> float:
    """A sum of accuracies on time that no schedule of these requests exceeds.

    The relaxation lets a request be served in parts by several arms, and be interrupted, moved to
    another slot and gone on with. Time is cut into cells: a request may use a cell for as long as
    the two overlap and one slot could work on it, and all together no more slot time than the
    cell has. A real schedule does all this, so its value is one that the programme may choose.
    True to the solver's precision, some 1e-7.
    """
    parts = _parts(seen)
    if not len(parts.request):
        return 0.0
    cells = cells or max(FEWEST_CELLS, len(seen.release_ms) // 2)
    edges = np.linspace(seen.release_ms[0], seen.due_ms.max(), cells + 1)
    work = _work(seen, edges)
    return _solve(seen, parts, work, edges)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The variables that say how much of a request an arm serves."""

    request: Ints
    column: Ints
    value: Floats
    slot_ms: Floats


@dataclass(frozen=True, slots=True)
class _Work:
    """The variables that say how long a kind works on a request in a cell."""

    request: Ints
    kind: Ints
    cell: Ints
    most_ms: Floats


def _parts(seen: Hindsight) -> _Parts:
    """Arms that would fit and are worth mixing, per request."""
    fits = seen.fits
    for kind in range(len(seen.slots)):
        columns = np.flatnonzero(seen.kind == kind)
        fits[:, columns] &= _mixable(
            seen.slot_ms[:, columns], seen.accuracy[columns], fits[:, columns]
        )
    request, column = np.nonzero(fits)
    return _Parts(request, column, seen.accuracy[column], seen.slot_ms[request, column])


def _mixable(slot_ms: Floats, accuracy: Floats, fits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which arms no mixture of two others, or of one and of nothing, beats."""
    keep = fits.copy()
    for row, (times, able) in enumerate(zip(slot_ms, fits, strict=True)):
        hull: list[int] = []
        able_arms: list[int] = np.flatnonzero(able).tolist()
        for arm in sorted(able_arms, key=lambda arm: (times[arm], -accuracy[arm])):
            if hull and accuracy[arm] <= accuracy[hull[-1]]:
                continue
            while hull and not _bends(hull, arm, times, accuracy):
                hull.pop()
            hull.append(arm)
        keep[row] = False
        keep[row, hull] = True
    return keep


def _bends(hull: list[int], arm: int, times: Floats, accuracy: Floats) -> bool:
    """Whether the last arm of the hull lies above the line from the one before it to the next."""
    last = hull[-1]
    before_ms, before = (times[hull[-2]], accuracy[hull[-2]]) if len(hull) > 1 else (0.0, 0.0)
    gained = (accuracy[last] - before) * (times[arm] - before_ms)
    return bool(gained > (accuracy[arm] - before) * (times[last] - before_ms))


def _work(seen: Hindsight, edges: Floats) -> _Work:
    n, kinds = seen.due_ms.shape
    request, kind = (axis.ravel() for axis in np.indices((n, kinds)))
    release, due = seen.release_ms[request], seen.due_ms.ravel()
    first = np.searchsorted(edges, release, side="right") - 1
    last = np.searchsorted(edges, due, side="left")
    counts = np.maximum(last - first, 0)
    rows = np.repeat(np.arange(n * kinds), counts)
    steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    cell = first[rows] + steps
    overlap = np.minimum(due[rows], edges[cell + 1]) - np.maximum(release[rows], edges[cell])
    return _Work(request[rows], kind[rows], cell, np.maximum(overlap, 0.0))


def _solve(seen: Hindsight, parts: _Parts, work: _Work, edges: Floats) -> float:
    optimize, sparse = _scipy()
    n, kinds = seen.due_ms.shape
    n_parts, n_work = len(parts.request), len(work.request)
    place = np.arange(n_parts + n_work)
    one_row = (parts.request, place[:n_parts], np.ones(n_parts))
    needed_row = n + parts.request * kinds + seen.kind[parts.column]
    given_row = n + work.request * kinds + work.kind
    room_row = n + n * kinds + work.cell * kinds + work.kind
    rows = np.concatenate([one_row[0], needed_row, given_row, room_row])
    columns = np.concatenate([place[:n_parts], place[:n_parts], place[n_parts:], place[n_parts:]])
    values = np.concatenate([one_row[2], parts.slot_ms, -np.ones(n_work), np.ones(n_work)])
    room = np.outer(np.diff(edges), seen.slots).ravel()
    limits = np.concatenate([np.ones(n), np.zeros(n * kinds), room])
    found = optimize.linprog(
        c=-np.concatenate([parts.value, np.zeros(n_work)]),
        A_ub=sparse.csr_array((values, (rows, columns)), shape=(len(limits), len(place))),
        b_ub=limits,
        bounds=np.column_stack(
            [np.zeros(len(place)), np.concatenate([np.ones(n_parts), work.most_ms])]
        ),
        method="highs",
    )
    assert found.status == 0, found.message
    return float(-found.fun)


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import optimize, sparse  # noqa: PLC0415  # an optional extra
    except ImportError as error:
        raise SetupError("the upper bound needs scipy: install mnv4serve[simulate]") from error
    return optimize, sparse
