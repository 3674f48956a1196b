"""Logits to the labels that a caller gets."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mnv4serve.domain import Prediction

FEW = 100
"""Labels up to which plain Python is faster: between requests numpy's code leaves the caches."""


def top_k(
    logits: NDArray[np.float32], labels: Sequence[str], k: int, *, temperature: float = 1.0
) -> tuple[Prediction, ...]:
    """The `k` most probable labels at a temperature, in order; a NaN logit counts as lowest."""
    rank = _rank_few if len(logits) <= FEW else _rank_many
    return tuple(
        Prediction(labels[i], i, probability) for i, probability in rank(logits, k, temperature)
    )


def _rank_few(
    logits: NDArray[np.float32], k: int, temperature: float
) -> Sequence[tuple[int, float]]:
    scores: list[float] = logits.tolist()
    if not all(map(math.isfinite, scores)):
        scores = _finite(logits).tolist()
    highest = max(scores)
    weights = [math.exp((score - highest) / temperature) for score in scores]
    total = sum(weights)
    order = sorted(range(len(weights)), key=weights.__getitem__, reverse=True)
    return [(i, weights[i] / total) for i in order[:k]]


def _rank_many(
    logits: NDArray[np.float32], k: int, temperature: float
) -> Sequence[tuple[int, float]]:
    highest = float(logits.max())
    if not math.isfinite(highest):
        logits = _finite(logits)
        highest = float(logits.max())
    weights = np.exp((logits - highest) / temperature)
    order = np.argsort(-weights, kind="stable")[:k]
    probabilities = weights[order] / weights.sum()
    return list(zip(order.tolist(), probabilities.tolist(), strict=True))


def _finite(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(np.nan_to_num(logits, nan=-1e30), np.float32(-1e30), np.float32(1e30))
