"""What the predictor remembers of finished runs, in constant space and a few comparisons a call."""

import itertools
import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence

SHORT = 64
LONG = 512
_SHORT_COUNTS = LONG // SHORT
_ALL = 2 * LONG
"""What the counts of a full distribution add up to: 64 of the last 64, weighed up, and 512."""
_BINS = ((1, 0.975), (1, 0.925), (3, 0.825), (5, 0.625), (5, 0.375), (5, 0.125))
"""Weight in twentieths and midpoint of the bins that stand for a distribution, finer in the
tail. Whole numbers keep sums exact, so that a probability compares with its target exactly."""
_WEIGHTS = sum(weight for weight, _ in _BINS)
_REPLIES = ((0.7, 0.5), (0.2, 0.8), (0.1, 0.95))
"""Weight and quantile of the replies that stand for all."""
_FIRST = 8
"""Durations that count as much as what was assumed before any was seen."""
_LARGEST_STEP = 4.0
"""One run moves a drift at most as far as if it had been this many times off."""


class _Window:
    """The last `len(values)` values, sorted as well as in order of arrival."""

    __slots__ = ("_arrived", "ordered")

    def __init__(self, values: Sequence[float]) -> None:
        self._arrived = deque(values)
        self.ordered = sorted(values)

    def add(self, value: float) -> None:
        oldest = self._arrived.popleft()
        self._arrived.append(value)
        del self.ordered[bisect_left(self.ordered, oldest)]
        insort(self.ordered, value)


class Recent:
    """The distribution of recent ratios: the last 64 weigh as much as the last 512 together.

    It starts as the prior, which real ratios displace one by one.
    """

    __slots__ = ("_long", "_place", "_points", "_prior", "_quantile", "_short")

    def __init__(self, prior: Sequence[float]) -> None:
        samples = list(itertools.islice(itertools.cycle(prior), LONG))
        self._prior = itertools.cycle(samples)
        self._long = _Window(samples)
        self._short = _Window(samples[:SHORT])
        self._points: tuple[tuple[int, float], ...] | None = None
        self._quantile: tuple[float, float] | None = None
        self._place = 0

    def add(self, ratio: float) -> None:
        self._long.add(ratio)
        self._short.add(ratio)
        self._points = self._quantile = None

    def forget(self) -> None:
        """Let one ratio of the prior displace the oldest one."""
        self.add(next(self._prior))

    def share_up_to(self, ratio: float) -> float:
        """The probability that a ratio is at most this."""
        short = bisect_right(self._short.ordered, ratio)
        return (_SHORT_COUNTS * short + bisect_right(self._long.ordered, ratio)) / _ALL

    def share_after(self, waits: "Recent", wait: float, limit: float) -> float:
        """The probability that a ratio plus `wait` times a ratio of `waits` is at most a limit."""
        short, long = self._short.ordered, self._long.ordered
        points = waits.points()
        if limit - wait * points[-1][1] < long[0]:  # the last 64 are among the last 512
            return 0.0
        missing = 0
        for weight, ratio in points:
            left = limit - wait * ratio
            over = _ALL - _SHORT_COUNTS * bisect_right(short, left) - bisect_right(long, left)
            if not over:
                break
            missing += weight * over
        return (_ALL * _WEIGHTS - missing) / (_ALL * _WEIGHTS)

    def quantile(self, share: float) -> float:
        """The smallest ratio with `share_up_to(ratio) >= share`."""
        if self._quantile is None or self._quantile[0] != share:
            ratios = self._long.ordered  # where all of them are
            while self._place and self.share_up_to(ratios[self._place - 1]) >= share:
                self._place -= 1
            while self.share_up_to(ratios[self._place]) < share:  # near where it was
                self._place += 1
            self._quantile = (share, ratios[self._place])
        return self._quantile[1]

    def points(self) -> tuple[tuple[int, float], ...]:
        """A few (weight, ratio) pairs that stand for the distribution, largest ratio first."""
        if self._points is None:
            short, long = self._short.ordered, self._long.ordered
            self._points = tuple(
                (weight, 0.5 * (short[int(middle * SHORT)] + long[int(middle * LONG)]))
                for weight, middle in _BINS
            )
        return self._points


class Replies:
    """What recent replies took, as three durations that stand for their distribution.

    Most are short; a few wait for the loop or for a core, and how many do is what matters.
    """

    __slots__ = ("_points", "_recent", "least_ms", "most_ms", "usual_ms")

    def __init__(self, reply_ms: float) -> None:
        self._recent = _Window([reply_ms] * SHORT)
        self._draw()

    def add(self, reply_ms: float) -> None:
        self._recent.add(max(0.0, reply_ms))
        self._draw()

    def mean(self, probability: Callable[[float], float]) -> float:
        """Of a probability that falls with the reply's duration."""
        worst = probability(self.most_ms)
        if worst >= 1.0:
            return worst
        (first, short_ms), (second, long_ms), (third, _) = self._points
        best = probability(short_ms)
        if best <= 0.0:
            return 0.0
        return first * best + second * probability(long_ms) + third * worst

    def _draw(self) -> None:
        ordered = self._recent.ordered
        self._points = tuple((weight, ordered[int(place * SHORT)]) for weight, place in _REPLIES)
        self.least_ms, self.most_ms = self._points[0][1], self._points[-1][1]
        self.usual_ms = ordered[SHORT // 2]


class Drift:
    """A factor that follows actual / expected: geometric, forgetful and deaf to single outliers."""

    __slots__ = ("_gain", "_leak", "_log", "_seen", "factor")

    def __init__(self, *, gain: float, leak: float = 0.0, believed: int = 0) -> None:
        """`believed`: after so many ratios they outweigh where it began; 0: by gain alone."""
        self._gain = gain
        self._seen = believed or math.inf
        self._leak = leak
        self._log = 0.0
        self.factor = 1.0

    def follow(self, ratio: float) -> None:
        """Move towards a ratio that was just seen."""
        surprise = math.log(max(ratio, 1e-9)) - self._log
        limit = math.log(_LARGEST_STEP)
        self._seen += 1.0
        step = max(self._gain, 1.0 / self._seen) * min(max(surprise, -limit), limit)
        self._set(self._log * (1.0 - self._leak) + step)

    def fade(self, share: float) -> None:
        """Give up a share of what was learnt."""
        self._set(self._log * (1.0 - share))

    def _set(self, log: float) -> None:
        self._log = log
        self.factor = math.exp(log)


class RunningQuantile:
    """A quantile of a stream of durations, by stochastic steps scaled by their recent spread."""

    __slots__ = ("_seen", "_share", "_spread_ms", "value_ms")

    def __init__(self, value_ms: float, *, share: float) -> None:
        self.value_ms = value_ms
        self._share = share
        self._seen = 0
        self._spread_ms = 0.5 * value_ms + 0.05

    def follow(self, duration_ms: float) -> None:
        """Move towards a duration that was just seen."""
        error_ms = duration_ms - self.value_ms
        self._seen += 1
        if self._seen <= _FIRST:
            self.value_ms += error_ms / (self._seen + 1)
            self._spread_ms += (abs(error_ms) - self._spread_ms) / (self._seen + 1)
            return
        step = self._share if error_ms > 0 else self._share - 1.0
        self.value_ms = max(0.0, self.value_ms + 0.2 * self._spread_ms * step)
        self._spread_ms += 0.05 * (min(abs(error_ms), 4.0 * self._spread_ms) - self._spread_ms)
