"""Tests of accuracy and batch-norm statistics."""

import torch

from mnv4serve.arch.model import create_model
from mnv4serve.train.evaluate import (
    VARIANCE_FLOOR,
    Labelled,
    accuracy,
    reestimate_batch_norm,
)


def pictures(count: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)


def test_statistics_are_those_of_the_pictures() -> None:
    """The first layer's mean equals the mean of what flows into its norm."""
    model = create_model("conv_small_035", 3)

    statistics = reestimate_batch_norm(model, pictures(64), 64)

    expected = model.conv_stem(pictures(64) / 127.5 - 1).mean((0, 2, 3))
    torch.testing.assert_close(statistics["bn1.running_mean"], expected, rtol=1e-3, atol=1e-4)


def test_reestimation_leaves_the_mode_and_momentum() -> None:
    """Training can go on afterwards as if nothing had happened."""
    model = create_model("conv_small_035", 3).train()

    reestimate_batch_norm(model, pictures(64), 32)

    assert model.training
    assert model.bn1.training
    assert model.bn1.momentum == 0.1


def test_accuracy_counts_right_answers() -> None:
    """A model that always says one class is right as often as the class occurs."""
    model = create_model("conv_small_035", 3)
    with torch.no_grad():
        model.classifier.bias[2] = 1000
    labels = torch.tensor([2, 0, 1, 2, 2])

    assert abs(accuracy(model, Labelled(pictures(5), labels), 32) - 0.6) < 1e-6


def test_a_silent_channel_keeps_a_variance() -> None:
    """A channel that never moves on these pictures is not amplified without bound."""
    model = create_model("conv_small_035", 3)
    with torch.no_grad():
        model.conv_stem.weight[0] = 0

    statistics = reestimate_batch_norm(model, pictures(64), 32)

    assert statistics["bn1.running_var"][0] == torch.tensor(VARIANCE_FLOOR)
