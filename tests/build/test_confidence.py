"""Probabilities are measured against how often they are right."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mnv4serve.build.confidence import (
    calibration_error,
    fit_temperature,
    log_loss,
    surprise,
    top_probability,
)


def honest(n: int, *, temperature: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose softmax at a temperature is exactly how often each label is right."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (n, 5))
    shares = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return (temperature * true).astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_temperature_that_made_the_logits_is_found(temperature: float) -> None:
    """Twenty thousand pictures pin it down to a few per cent, and no neighbour fits better."""
    logits, labels = honest(20_000, temperature=temperature)

    found = fit_temperature(logits, labels)

    assert found == pytest.approx(temperature, rel=0.04)
    best = log_loss(logits, labels, found)
    assert best <= min(log_loss(logits, labels, found * k) for k in (0.98, 1.02))


def test_the_right_temperature_takes_the_calibration_error_away() -> None:
    """Logits that are twice too large say far too much; halved they say what is true."""
    logits, labels = honest(20_000, temperature=2.0)

    assert calibration_error(logits, labels, 1.0) > 0.08
    assert calibration_error(logits, labels, 2.0) < 0.015


def test_the_calibration_error_by_hand() -> None:
    """Four pictures at 0.8, half of them right: 0.3 apart in every bin that is not split."""
    logits = np.log(np.array([[0.8, 0.2]] * 60, np.float32))
    labels = np.array([0] * 30 + [1] * 30, np.int64)

    # ordered stably, so seven bins are all right, seven all wrong and one is half and half
    expected = (7 * 0.2 + 7 * 0.8 + 0.3) / 15
    assert calibration_error(logits, labels, 1.0) == pytest.approx(expected, abs=1e-6)


def test_all_right_ends_at_the_coldest() -> None:
    """There is no best temperature where nothing is wrong; the search ends all the same."""
    logits = np.array([[4.0, 0.0], [0.0, 4.0]], np.float32)

    assert fit_temperature(logits, np.array([0, 1])) == pytest.approx(0.25, rel=0.01)


def test_strangers_are_counted_by_how_sure_the_answer_is() -> None:
    """Of three answers at 0.95, 0.6 and 0.5, one is certain and all are at least even."""
    logits = np.log(np.array([[0.95, 0.05], [0.6, 0.4], [0.5, 0.5]], np.float32))

    found = surprise(logits, 1.0)

    assert (found.n, found.certain, found.sure) == (3, 0.3333, 1.0)
    assert found.mean == pytest.approx(0.6833, abs=1e-4)
    assert top_probability(logits, 1e3) == pytest.approx([0.5] * 3, abs=1e-3)
