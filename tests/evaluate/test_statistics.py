import math

import numpy as np
import pytest

from loadtests.evaluate.statistics import (
    block_means,
    calibration,
    calibration_error,
    interval,
    paired,
)


def test_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    """Of many samples' 95 % intervals, about 95 % hold the mean they were drawn with."""
    rng = np.random.default_rng(3)
    found = [interval(rng.normal(2.0, 1.0, 8).tolist()) for _ in range(1000)]

    assert np.mean([f.low <= 2.0 <= f.high for f in found]) == pytest.approx(0.95, abs=0.02)


def test_one_value_tells_nothing_of_the_spread() -> None:
    """Its interval is everything."""
    assert interval([0.3]).low == -math.inf


def test_pairs_cancel_what_both_share() -> None:
    """A difference that is the same in every pair is certain, however much the values vary."""
    found = paired([1.0, 5.0, 9.0], [0.5, 4.5, 8.5])

    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_blocks_cover_every_value() -> None:
    """Uneven parts are as even as can be, and none is left out."""
    assert block_means([1, 1, 1, 3, 3, 3, 5], 3) == pytest.approx([1.0, 3.0, 4.0])


def test_calibration_error_is_the_distance_that_was_put_in() -> None:
    """Chances that are ten points too high are found to be so."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.1, 0.8, 20_000)
    happened = rng.uniform(size=20_000) < truth

    bins = calibration((truth + 0.1).tolist(), happened.tolist())

    assert {line.n for line in bins} == {2000}
    assert calibration_error(bins) == pytest.approx(0.1, abs=0.01)
