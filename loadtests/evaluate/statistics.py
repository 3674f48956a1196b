"""Paired differences with their uncertainty, and calibration in bins of equal mass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and what it may be."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Requests of about the same predicted probability."""

    predicted: float
    observed: float
    n: int


def interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean; of a single value, everything."""
    mean = float(np.mean(values))
    if len(values) < 2:  # noqa: PLR2004  # one value has no spread
        return Interval(mean, -np.inf, np.inf, len(values))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(student.ppf(0.5 + CONFIDENCE / 2.0, len(values) - 1)) * error
    return Interval(mean, mean - reach, mean + reach, len(values))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The difference ours - theirs over the same arrivals, unit by unit."""
    return interval([a - b for a, b in zip(ours, theirs, strict=True)])


def block_means(values: Sequence[float], blocks: int) -> list[float]:
    """Means of consecutive parts: near-independent units where single requests are not."""
    return [float(np.mean(part)) for part in np.array_split(np.asarray(values, float), blocks)]


def calibration(
    predicted: Sequence[float], happened: Sequence[bool], *, bins: int = 10
) -> list[CalibrationBin]:
    """Predicted against observed share, in bins of as many requests each."""
    order = np.argsort(np.asarray(predicted), kind="stable")
    chance = np.asarray(predicted, float)[order]
    truth = np.asarray(happened, float)[order]
    parts = [part for part in np.array_split(np.arange(len(order)), bins) if len(part)]
    return [
        CalibrationBin(float(chance[part].mean()), float(truth[part].mean()), len(part))
        for part in parts
    ]


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Mean absolute difference between predicted and observed, weighted by requests."""
    total = sum(line.n for line in bins)
    return sum(line.n * abs(line.predicted - line.observed) for line in bins) / total
