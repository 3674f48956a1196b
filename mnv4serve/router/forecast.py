"""How much work will arrive after a moment like this one, learnt from what followed earlier ones.

No arrival process is assumed. Moments at which something was decided are told apart by how long
ago the last request came; what then arrived within a few horizons is remembered. Where requests
come in bursts, a moment inside one and a moment after it differ by orders of magnitude.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable

HORIZONS = tuple(2.0**power for power in range(-1, 7))
"""In units of the fastest arm's slot time."""
_AGES = (0.0, 0.5, 1.5, 4.0)
"""Since the last arrival, in the same units."""
_LONGEST = 4.0 * HORIZONS[-1]
"""No budget counts as longer, in the same units."""
_GAPS = 100
"""Arrivals over which their rate is averaged."""
_BUDGETS = 128
_SAMPLES = 8
"""Budgets that stand for the recent ones, and every how many arrivals they are drawn anew."""
_GAIN = 0.03
_BELIEF = 4.0
"""Moments of one kind after which they count as much as the mean rate does."""
_OPEN_MOMENTS = 256


class Outlook:
    """Arrivals expected after a moment, by how soon."""

    __slots__ = ("_arriving", "_blocked", "_due", "_held", "_horizons", "_rate", "_spread")

    def __init__(
        self,
        horizons: tuple[float, ...],
        *,
        arriving: list[float],
        spread: list[float],
        rate: float,
        budgets: list[float],
        slacks: list[tuple[float, float]],
    ) -> None:
        """`slacks` holds, for each budget, what it can wait and how often others take as long."""
        self._horizons = horizons
        self._rate = rate
        self._arriving = arriving
        self._spread = spread
        self._due = [self._mean(x, [(budget, 1.0) for budget in budgets]) for x in horizons]
        self._blocked = [self._mean(x, [(slack, 1.0) for slack, _ in slacks]) for x in horizons]
        self._held = [self._mean(x, slacks) for x in horizons]

    def within(self, duration_ms: float) -> float:
        """How many will have arrived."""
        return self._at(self._arriving, duration_ms)

    def spread(self, duration_ms: float) -> float:
        """The standard deviation of that number."""
        return math.sqrt(self._at(self._spread, duration_ms))

    def due(self, duration_ms: float) -> float:
        """How many will have arrived and be due already."""
        return self._at(self._due, duration_ms)

    def blocked(self, duration_ms: float) -> float:
        """How many will be late if no slot is free until then."""
        return self._at(self._blocked, duration_ms)

    def held(self, duration_ms: float) -> float:
        """How many will be late if one slot is taken until then and the others as usual."""
        return self._at(self._held, duration_ms)

    def _mean(self, duration_ms: float, leads: list[tuple[float, float]]) -> float:
        """Arrivals that come at least their lead before the end of the time, each with a weight."""
        total = 0.0
        for lead, weight in leads:
            if lead >= duration_ms:
                break
            total += weight * self._at(self._arriving, duration_ms - lead)
        return total / len(leads)

    def _at(self, counts: list[float], duration_ms: float) -> float:
        horizons = self._horizons
        right = bisect_right(horizons, duration_ms)
        if right == 0:
            return counts[0] * max(0.0, duration_ms) / horizons[0]
        left_ms, left = horizons[right - 1], counts[right - 1]
        if right == len(horizons):
            return left + self._rate * (duration_ms - left_ms)
        part = (duration_ms - left_ms) / (horizons[right] - left_ms)
        return left + (counts[right] - left) * part


class _Situation:
    """What followed moments of one kind."""

    __slots__ = ("counts", "outlook", "seen", "variances")

    def __init__(self) -> None:
        self.counts = [0.0] * len(HORIZONS)
        self.variances = [0.0] * len(HORIZONS)
        self.seen = 0
        self.outlook: Outlook | None = None

    def learn(self, counts: list[int]) -> None:
        self.seen += 1
        gain = max(1.0 / self.seen, _GAIN)
        self.variances = [
            variance + gain * ((new - old) ** 2 - variance)
            for variance, old, new in zip(self.variances, self.counts, counts, strict=True)
        ]
        self.counts = [
            old + gain * (new - old) for old, new in zip(self.counts, counts, strict=True)
        ]


class Forecast:
    """Arrivals at one pool: their rate, their budgets and how they cluster."""

    def __init__(self, fastest_ms: float, others_taken: Callable[[float], float]) -> None:
        self._fastest_ms = fastest_ms
        self._others_taken = others_taken
        self._horizons = tuple(fastest_ms * horizon for horizon in HORIZONS)
        self._ages_ms = tuple(fastest_ms * age for age in _AGES)
        self._situations = [_Situation() for _ in (*_AGES, math.inf)]
        self._moments: deque[tuple[float, _Situation]] = deque()
        self._arrivals: list[float] = []
        self._recent: deque[float] = deque(maxlen=_BUDGETS)
        self._budgets: list[float] = []
        self._gap_ms: float | None = None
        self._n = 0
        self.needed_ms = fastest_ms
        """What is left of a budget has to be as long for the fastest arm to be likely on time."""
        self.typical_budget_ms = 0.0
        """The mean of recent budgets."""

    @property
    def rate(self) -> float:
        """Arrivals a millisecond."""
        return 1.0 / max(self._gap_ms, 1e-6) if self._gap_ms is not None else 0.0

    def arrived(self, budget_ms: float, now_ms: float) -> None:
        """Take note of a request."""
        if self._arrivals:
            gap_ms = max(0.0, now_ms - self._arrivals[-1])
            known = min(self._n, _GAPS)
            old_ms = self._gap_ms if self._gap_ms is not None else gap_ms
            self._gap_ms = old_ms + (gap_ms - old_ms) / known
        self._n += 1
        self._arrivals.append(now_ms)
        self._recent.append(min(budget_ms, _LONGEST * self._fastest_ms))
        if self._n % _SAMPLES == 0 or not self._budgets:
            self._refresh()

    def look(self, now_ms: float) -> Outlook | None:
        """What to expect after this moment; None before anything is known."""
        if self._gap_ms is None:
            return None
        self._close_moments(now_ms)
        age_ms = now_ms - self._arrivals[-1]
        situation = self._situations[bisect_right(self._ages_ms, age_ms)]
        if len(self._moments) < _OPEN_MOMENTS:
            self._moments.append((now_ms, situation))
        if situation.outlook is None:
            situation.outlook = self._outlook(situation)
        return situation.outlook

    def _close_moments(self, now_ms: float) -> None:
        """Learn from at most a few moments at a time whose last horizon has passed."""
        for _ in range(2):
            if not self._moments or self._moments[0][0] > now_ms - self._horizons[-1]:
                return
            at_ms, situation = self._moments.popleft()
            arrivals = self._arrivals
            first = bisect_right(arrivals, at_ms)
            situation.learn([bisect_right(arrivals, at_ms + x) - first for x in self._horizons])

    def _outlook(self, situation: _Situation) -> Outlook:
        belief = situation.seen / (situation.seen + _BELIEF)
        rate = self.rate
        slacks = [max(0.0, budget - self.needed_ms) for budget in self._budgets]
        steady = [(1.0 - belief) * rate * horizon_ms for horizon_ms in self._horizons]
        return Outlook(
            self._horizons,
            arriving=_mixed(situation.counts, belief, steady),
            spread=_mixed(situation.variances, belief, steady),
            rate=rate,
            budgets=self._budgets,
            slacks=[(slack, self._others_taken(slack)) for slack in slacks],
        )

    def _refresh(self) -> None:
        """Draw the budgets that stand for the recent ones anew, and with them every outlook."""
        ordered = sorted(self._recent)
        n = len(ordered)
        self._budgets = [
            ordered[(2 * place + 1) * n // (2 * _SAMPLES)] for place in range(_SAMPLES)
        ]
        self.typical_budget_ms = sum(ordered) / n
        for situation in self._situations:
            situation.outlook = None
        oldest_ms = self._moments[0][0] if self._moments else self._arrivals[-1]
        if len(self._arrivals) > 4 * _OPEN_MOMENTS:
            keep = min(bisect_right(self._arrivals, oldest_ms), len(self._arrivals) - 1)
            del self._arrivals[:keep]


def _mixed(learnt: list[float], belief: float, steady: list[float]) -> list[float]:
    """Poisson arrivals, whose variance is their number, where little has been learnt."""
    return [belief * seen + known for seen, known in zip(learnt, steady, strict=True)]
