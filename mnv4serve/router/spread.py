"""Which of several pools that would do about as well takes a request, where others send to them.

All ingresses hear the same reports, so that each of them would send what comes next to the same
pool. A draw of its own keeps them apart. All equals take part, not two drawn at random: own work is
known exactly, and drawing two made waits longer under load when several ingresses were simulated.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mnv4serve.router.estimate import Estimate

ABOUT = 0.1
"""Share of a run by which two pools may differ and still do about as well."""


class Rival(NamedTuple):
    """A pool's offer for a request."""

    accuracy: float
    estimate: Estimate
    lot: int | None
    """Drawn for this request; None where nobody else sends to the pool."""


def spread(rivals: Sequence[Rival], best: int) -> int:
    """The number of the rival to take: the best, or one that would do about as well."""
    first = rivals[best]
    if first.lot is None:
        return best
    slack_ms = ABOUT * first.estimate.run_ms
    equals = {
        number: one.estimate.total_ms
        for number, one in enumerate(rivals)
        if _equal(one, first, slack_ms)
    }
    latest_ms = min(equals.values()) + slack_ms
    drawn = [(rivals[n].lot or 0, n) for n, total_ms in equals.items() if total_ms <= latest_ms]
    return min(drawn)[1]


def _equal(one: Rival, other: Rival, slack_ms: float) -> bool:
    """Whether only what waits makes a difference, and others send there, too."""
    apart_ms = abs(one.estimate.run_ms - other.estimate.run_ms)
    return one.lot is not None and one.accuracy == other.accuracy and apart_ms <= slack_ms
