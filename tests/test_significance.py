"""Statistics against published values and against their own definitions."""

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.significance import (
    Z_95_ONE_SIDED,
    holm,
    loss_bound,
    mcnemar,
    wilson_interval,
)

counts = st.integers(0, 60)


def test_the_interval_is_wilsons() -> None:
    """Known values: 8 of 10 and the two ends, which stay in [0, 1]."""
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [
        (0, 0, 1.0),
        (5, 0, 1 / 32),
        (0, 5, 1.0),
        (8, 2, 56 / 1024),
        (10, 10, 0.5880985260009766),
    ],
)
def test_mcnemar_is_the_binomial_tail(won: int, lost: int, p: float) -> None:
    """Hand-counted tails of fair coins; as many wins as losses prove nothing."""
    assert mcnemar(won=won, lost=lost) == pytest.approx(p, rel=1e-12)


@given(counts, counts)
def test_mcnemar_counts_the_coin_tosses(won: int, lost: int) -> None:
    """It equals the plain sum, and the two directions overlap by the observed point."""
    n = won + lost
    plain = sum(comb(n, k) for k in range(won, n + 1)) / 2**n

    assert mcnemar(won=won, lost=lost) == pytest.approx(plain)
    overlap = comb(n, won) / 2**n
    both = mcnemar(won=won, lost=lost) + mcnemar(won=lost, lost=won)
    assert both == pytest.approx(1 + overlap)


def test_mcnemar_takes_many_pairs() -> None:
    """Thousands of pairs that differ stay exact: no overflow, no rounding to 0."""
    scipy = pytest.importorskip("scipy.stats", reason="scipy is only the oracle here")

    expected = scipy.binomtest(1900, 3525, alternative="greater").pvalue
    assert mcnemar(won=1900, lost=1625) == pytest.approx(expected, rel=1e-9)


def test_holm_steps_down() -> None:
    """A textbook family: the second smallest meets alpha / 3, the third fails and ends it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == (True, False, False, True)
    assert holm([0.05]) == (True,)
    assert holm([]) == ()
    assert holm([0.03, 0.03]) == (False, False)


def test_the_loss_bound_at_its_ends() -> None:
    """Where no pair differs it shrinks with their number; where all are lost it is everything."""
    z2 = Z_95_ONE_SIDED**2

    assert loss_bound(won=0, lost=0, n=956) == pytest.approx(z2 / (956 + z2), rel=1e-9)
    assert loss_bound(won=0, lost=50, n=50) == pytest.approx(1.0)


@pytest.mark.parametrize(("won", "lost", "n"), [(2, 12, 50), (6, 6, 956), (5, 30, 400), (9, 0, 80)])
def test_the_loss_bound_is_where_the_score_test_turns(won: int, lost: int, n: int) -> None:
    """At the bound, the likelihood's own maximum under that loss gives a z of minus 1.645."""
    bound = loss_bound(won=won, lost=lost, n=n)

    shares = np.linspace(1e-7, 1 - 1e-7, 4_000_001)  # of pairs that only the challenger wins
    shares = shares[(shares + bound > 0) & (2 * shares + bound < 1)]
    log_likelihood = (
        won * np.log(shares)
        + lost * np.log(shares + bound)
        + (n - won - lost) * np.log1p(-2 * shares - bound)
    )
    best = float(shares[int(np.argmax(log_likelihood))])
    z = (lost - won - n * bound) / sqrt(n * (2 * best + bound - bound * bound))

    assert z == pytest.approx(-Z_95_ONE_SIDED, abs=2e-3)


@given(counts, counts, st.integers(0, 2000))
def test_the_loss_bound_lies_above_the_loss(won: int, lost: int, same: int) -> None:
    """It never promises less than what was observed, and stays a share."""
    n = won + lost + same + 1

    assert (lost - won) / n <= loss_bound(won=won, lost=lost, n=n) <= 1.0
