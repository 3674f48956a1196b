"""Whether a difference is more than chance; exact where that is affordable."""

from collections.abc import Sequence
from math import comb, sqrt

Z_95_ONE_SIDED = 1.6448536269514722
Z_95_TWO_SIDED = 1.959963984540054
"""95 % quantiles of the standard normal distribution."""
ALPHA = 0.05
"""Chance of one wrong claim or more in a family of tests."""
BISECTIONS = 60


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927); it stays in [0, 1] at the ends."""
    share, z2 = correct / n, Z_95_TWO_SIDED * Z_95_TWO_SIDED
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95_TWO_SIDED / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(*, won: int, lost: int) -> float:
    """One-sided exact p: the chance of winning as many or more of the pairs that differ.

    `won` are the pictures that only the challenger labels right, `lost` those that only the other
    does (McNemar 1947, with the binomial distribution instead of its approximation).
    """
    n = won + lost
    ways = term = comb(n, won)
    for k in range(won, n):
        term = term * (n - k) // (k + 1)
        ways += term
    return float(ways / (1 << n))


def holm(p_values: Sequence[float], *, alpha: float = ALPHA) -> tuple[bool, ...]:
    """Which of a family of hypotheses are rejected (Holm 1979), in the order given."""
    rejected = [False] * len(p_values)
    for passed, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[at] > alpha / (len(p_values) - passed):
            break
        rejected[at] = True
    return tuple(rejected)


def loss_bound(*, won: int, lost: int, n: int) -> float:
    """Upper one-sided 95 % bound of how much accuracy is lost, `lost - won` of `n` pairs.

    The largest loss that a score test does not refute (Tango 1998): unlike the normal
    approximation it is not zero where no pair differs.
    """
    low, high = (lost - won) / n, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _score(middle, won=won, lost=lost, n=n) >= -Z_95_ONE_SIDED:
            low = middle
        else:
            high = middle
    return low


def _score(loss: float, *, won: int, lost: int, n: int) -> float:
    """Standardised distance between the observed loss and a supposed one."""
    linear = (2 * n - lost + won) * loss - lost - won
    root = sqrt(max(0.0, linear * linear + 8 * n * won * loss * (1 - loss)))
    won_share = (root - linear) / (4 * n)
    variance = n * (2 * won_share + loss * (1 - loss))
    return 0.0 if variance <= 0 else (lost - won - n * loss) / sqrt(variance)
