"""Tests of optimiser and learning rate."""

import pytest

from mnv4serve.arch.model import create_model
from mnv4serve.train.config import TrainConfig
from mnv4serve.train.optimise import FINAL_SHARE, build_optimiser, learning_rate


def test_learning_rate_warms_up_and_decays(config: TrainConfig) -> None:
    """It rises linearly, peaks at the end of the warm-up and ends almost at zero."""
    peak = config.learning_rate

    assert learning_rate(config, 0.25) == pytest.approx(peak / 2)
    assert learning_rate(config, 0.5) == pytest.approx(peak)
    assert learning_rate(config, 3) == pytest.approx(peak * FINAL_SHARE)


def test_norms_and_biases_are_not_decayed(config: TrainConfig) -> None:
    """Only kernels and the classifier's matrix shrink."""
    model = create_model("hybrid_medium", 3)

    decayed, free = build_optimiser(model, config).param_groups

    names = {id(p): name for name, p in model.named_parameters()}
    assert free["weight_decay"] == 0
    assert {names[id(p)].rsplit(".")[-1] for p in free["params"]} == {"weight", "bias", "gamma"}
    assert all(p.ndim == 4 or names[id(p)] == "classifier.weight" for p in decayed["params"])
