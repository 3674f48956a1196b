import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.router.price import Curve

POINTS = [(1.0, 0.7), (2.0, 0.8), (6.0, 0.86), (3.0, 0.75)]
"""The last one lies below the curve of the others."""
_points = st.lists(st.tuples(st.floats(0.05, 50.0), st.floats(0.1, 0.99)), min_size=1, max_size=12)


def _best(points: list[tuple[float, float]], price: float) -> tuple[float, float]:
    return max(points, key=lambda point: (point[1] - price * point[0], -point[0]))


@pytest.mark.parametrize(
    ("share_ms", "best_ms"), [(0.9, 1.0), (1.2, 1.0), (1.6, 2.0), (3.0, 2.0), (5.0, 6.0), (99, 6.0)]
)
def test_the_arm_that_is_worth_most_is_about_as_long_as_the_share(
    share_ms: float, best_ms: float
) -> None:
    """At the price of a share, the best of the arms takes about that share."""
    price = Curve(POINTS).price(share_ms)

    assert _best(POINTS, price)[0] == best_ms


def test_time_in_plenty_costs_nothing_and_time_that_lacks_costs_an_answer() -> None:
    """Free where every request may have the most accurate arm, an answer's worth where none may."""
    curve = Curve(POINTS)

    assert curve.price(1000.0) == 0.0
    assert curve.price(float("inf")) == 0.0
    assert curve.price(0.0) == pytest.approx(0.7 / 1.0)
    assert curve.price(-5.0) == curve.price(0.0)


@given(_points, st.lists(st.floats(-1.0, 200.0), min_size=2, max_size=20))
def test_the_price_never_rises_with_the_share(
    points: list[tuple[float, float]], shares_ms: list[float]
) -> None:
    """More time for each request makes time cheaper, whatever the arms are."""
    curve = Curve(points)

    prices = [curve.price(share_ms) for share_ms in sorted(shares_ms)]

    assert all(left >= right - 1e-12 for left, right in itertools.pairwise(prices))
    assert all(price >= 0.0 for price in prices)


@given(_points)
def test_arms_below_the_curve_do_not_change_it(points: list[tuple[float, float]]) -> None:
    """An arm that two others beat together is as if it were not there."""
    curve = Curve(points)
    worse = [(time_ms * 1.5, accuracy * 0.5) for time_ms, accuracy in points]

    assert Curve([*points, *worse]).price(3.0) == curve.price(3.0)


def test_a_single_arm_has_a_price() -> None:
    """With nothing to choose among, time is worth what an answer is, or nothing."""
    curve = Curve([(2.0, 0.8)])

    assert curve.price(0.5) == pytest.approx(0.4)
    assert curve.price(3.0) == 0.0
