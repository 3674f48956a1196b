"""How likely it is that a pool's other slots are all taken, and for how long still."""

from bisect import bisect_right
from collections import deque
from itertools import accumulate

_RUNS = 64
_FEW = 8


class Occupancy:
    """What recent runs say of slots at a moment picked at random."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._ended: deque[tuple[float, float]] = deque(maxlen=_RUNS)
        self._ordered: list[float] | None = None
        """Their durations, longest last; drawn anew when asked for after a run."""
        self._sums: list[float] = []
        """Of the longest of them: none, one, two, ..."""

    def ran(self, duration_ms: float, now_ms: float) -> None:
        """Take note of a run that has ended."""
        self._ended.append((now_ms, duration_ms))
        self._ordered = None

    def others_taken(self, beyond_ms: float) -> float:
        """The probability that every slot but one is taken for longer than this.

        At any moment a slot is that far from the end of a run for as much of the time as runs are
        longer. Zero until a few runs have been seen.
        """
        if self._slots == 1:
            return 1.0
        if len(self._ended) < _FEW:
            return 0.0
        (first_ms, duration_ms), (last_ms, _) = self._ended[0], self._ended[-1]
        span_ms = max(last_ms - first_ms + duration_ms, 1e-6)
        ordered = self._by_duration()
        longer = len(ordered) - bisect_right(ordered, beyond_ms)
        longer_ms = max(0.0, self._sums[longer] - longer * beyond_ms)
        return min(1.0, longer_ms / (span_ms * self._slots)) ** (self._slots - 1)

    def _by_duration(self) -> list[float]:
        if self._ordered is None:
            self._ordered = sorted(duration_ms for _, duration_ms in self._ended)
            self._sums = list(accumulate(reversed(self._ordered), initial=0.0))
        return self._ordered
