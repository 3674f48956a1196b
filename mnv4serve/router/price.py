"""What a millisecond of slot time is worth, from how much of it there is for each request.

The arms that are worth having form a concave curve of accuracy over slot time. Where every request
may take a certain time, its slope there is what the next millisecond would bring elsewhere.
"""

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Sequence

_SWITCH = 0.4
"""Where between two arms the price is such that both are worth the same, as a share of the way."""


class Curve:
    """The concave hull of (slot time, accuracy), and its slopes."""

    __slots__ = ("_prices", "_shares", "fastest_accuracy", "fastest_ms")

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        known = sorted(points, key=lambda point: (point[0], -point[1]))
        self.fastest_ms, self.fastest_accuracy = known[0]
        hull = _hull(known)
        self._shares = [0.5 * hull[0][0]]
        self._prices = [hull[0][1] / hull[0][0]]
        for (left_ms, left), (right_ms, right) in itertools.pairwise(hull):
            self._shares.append(left_ms + _SWITCH * (right_ms - left_ms))
            self._prices.append((right - left) / (right_ms - left_ms))
        self._shares.append(1.5 * hull[-1][0])
        self._prices.append(0.0)

    def price(self, share_ms: float) -> float:
        """Accuracy per millisecond where each request may take this long."""
        right = bisect_right(self._shares, share_ms)
        if right == 0:
            return self._prices[0]
        if right == len(self._shares):
            return 0.0
        left_ms, left = self._shares[right - 1], self._prices[right - 1]
        part = (share_ms - left_ms) / (self._shares[right] - left_ms)
        return left + (self._prices[right] - left) * part


def _hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every slope smaller than the one before, that from no answer in no time among them."""
    hull = [(0.0, 0.0)]
    for time_ms, accuracy in points:
        if accuracy <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], (time_ms, accuracy)):
            hull.pop()
        hull.append((time_ms, accuracy))
    return hull[1:]


def _slope(left: tuple[float, float], right: tuple[float, float]) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])
