"""How far probabilities can be believed: temperature, calibration error, answers to strangers."""

from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

BINS = 15
"""Of the calibration error, each holding as many pictures as the others."""
COLDEST, HOTTEST = 0.25, 4.0
"""Beyond these a handful of pictures without a mistake would claim certainty."""
GOLDEN = (sqrt(5) - 1) / 2
STEPS = 60
SURE, CERTAIN = 0.5, 0.9

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


class Surprise(BaseModel):
    """What a network says to pictures of none of its classes."""

    model_config = ConfigDict(frozen=True)

    n: int
    mean: float
    """Average probability of the label it names."""
    sure: float
    """Share of the pictures where that probability is at least a half."""
    certain: float
    """Share where it is at least nine tenths."""


def log_loss(logits: Logits, labels: Labels, temperature: float) -> float:
    """Average negative log-likelihood of the right labels."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    right = scaled[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - right))


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature at which the right labels are likeliest, by golden-section search.

    The loss has one minimum in the logarithm of the temperature. Where every picture is right it
    falls without end, so the search stops at the coldest.
    """
    low, high = log(COLDEST), log(HOTTEST)
    for _ in range(STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if log_loss(logits, labels, exp(left)) <= log_loss(logits, labels, exp(right)):
            high = right
        else:
            low = left
    return float(f"{exp((low + high) / 2):.4g}")


def calibration_error(logits: Logits, labels: Labels, temperature: float) -> float:
    """How far probability and share of right answers lie apart on average, in equal-mass bins."""
    sureness = top_probability(logits, temperature)
    right = logits.argmax(axis=1) == labels
    order = np.argsort(sureness, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    gaps = [len(part) * abs(float(sureness[part].mean() - right[part].mean())) for part in bins]
    return sum(gaps) / len(labels)


def surprise(logits: Logits, temperature: float) -> Surprise:
    """How sure a network is of pictures that show none of its classes."""
    sureness = top_probability(logits, temperature)
    return Surprise(
        n=len(sureness),
        mean=round(float(sureness.mean()), 4),
        sure=round(float((sureness >= SURE).mean()), 4),
        certain=round(float((sureness >= CERTAIN).mean()), 4),
    )


def top_probability(logits: Logits, temperature: float) -> NDArray[np.float64]:
    """Of each picture, the probability of the label that is named."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return np.asarray(1.0 / np.exp(scaled).sum(axis=1))
