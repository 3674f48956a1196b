"""Behaviour of mnv4serve.predictions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mnv4serve.predictions import FEW, top_k


def test_top_k_orders_by_probability() -> None:
    """The most probable label comes first and all probabilities add up to one."""
    labels = ("a", "b", "c", "d")

    found = top_k(np.array([0.0, 2.0, -1.0, 1.0], np.float32), labels, 4)

    assert [one.label for one in found] == ["b", "d", "a", "c"]
    assert [one.index for one in found] == [1, 3, 0, 2]
    assert sum(one.probability for one in found) == pytest.approx(1.0, abs=1e-6)
    assert len(top_k(np.zeros(4, np.float32), labels, 2)) == 2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_temperature_changes_how_sure_never_the_order(temperature: float) -> None:
    """Probabilities are the softmax of the logits divided by it."""
    logits = np.array([0.5, 2.0, -1.0, 1.0], np.float32)

    found = top_k(logits, ("a", "b", "c", "d"), 4, temperature=temperature)

    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    assert [one.index for one in found] == [1, 3, 0, 2]
    assert [one.probability for one in found] == pytest.approx(sorted(expected)[::-1], rel=1e-5)


@given(
    arrays(np.float32, st.sampled_from([1, 20, FEW + 1]), elements=st.floats(width=32)),
    st.integers(1, 20),
)
def test_top_k_survives_any_logits(logits: NDArray[np.float32], k: int) -> None:
    """NaN and infinities give probabilities in [0, 1] in falling order, never an error."""
    labels = [str(i) for i in range(FEW + 1)]

    found = top_k(logits, labels, k)

    probabilities = [one.probability for one in found]
    assert len(found) == min(k, len(logits))
    assert all(0.0 <= p <= 1.0 for p in probabilities)
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.parametrize("n", [3, FEW + 1])
def test_top_k_counts_nan_as_lowest(n: int) -> None:
    """A logit that is not a number never wins over one that is."""
    logits = np.full(n, -5.0, np.float32)
    logits[0], logits[-1] = np.nan, 3.0
    labels = ["nan", *["low"] * (n - 2), "high"]

    found = top_k(logits, labels, n)

    assert [one.label for one in found] == labels[::-1]
    assert found[-1].probability == 0.0


@pytest.mark.parametrize("k", [1, 5, FEW])
def test_few_labels_are_ranked_as_many_are(k: int) -> None:
    """One label more, which nobody would choose, changes nothing of what the others get."""
    logits = np.random.default_rng(k).normal(size=FEW).astype(np.float32)
    labels = [str(i) for i in range(FEW + 1)]

    few = top_k(logits, labels, k, temperature=1.3)
    many = top_k(np.append(logits, np.float32(-1e9)), labels, k, temperature=1.3)

    assert [one.index for one in few] == [one.index for one in many]
    assert [one.probability for one in few] == pytest.approx(
        [one.probability for one in many], rel=1e-5
    )
