"""Tests of weights to start from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mnv4serve.arch.model import MobileNetV4, create_model
from mnv4serve.errors import TrainError
from mnv4serve.train.config import Start, TrainConfig
from mnv4serve.train.initial import FRESH_LAYER_SCALE, start_from, strongest
from mnv4serve.train.loop import train
from mnv4serve.train.run import begin, training_pictures


def network(architecture: str, classes: int = 3, *, seed: int = 0) -> MobileNetV4:
    """Random weights whose batch norms differ from channel to channel."""
    torch.manual_seed(seed)
    model = create_model(architecture, classes)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and "classifier" not in name:
            torch.nn.init.uniform_(parameter, 0.1, 1)
    return model


def weights(model: MobileNetV4) -> dict[str, Tensor]:
    state = model.state_dict()
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def test_same_architecture_takes_everything() -> None:
    """Starting from a network's own weights makes the same network."""
    source, target = network("conv_small_035"), network("conv_small_035", seed=1)

    start_from(target, weights(source), "conv_small_035")

    assert all(torch.equal(v, weights(source)[k]) for k, v in weights(target).items())


def test_other_classes_keep_a_fresh_classifier() -> None:
    """Only the last layer depends on how many classes there are."""
    source, target = network("conv_small_035", 3), network("conv_small_035", 5, seed=1)
    fresh = target.classifier.weight.detach().clone()

    start_from(target, weights(source), "conv_small_035")

    assert torch.equal(target.classifier.weight, fresh)
    assert torch.equal(target.conv_head.weight, source.conv_head.weight)


def test_narrow_network_equals_the_wide_one_without_its_weak_channels() -> None:
    """Where the dropped channels are silent, both compute the same."""
    wide, narrow = network("conv_small"), network("conv_small_050", seed=1)
    for name, module in wide.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d) and name.startswith("blocks"):
            kept = dict(narrow.named_modules())[name]
            assert isinstance(kept, torch.nn.BatchNorm2d)
            module.weight.data[: -kept.num_features] = 0
            module.bias.data[: -kept.num_features] = 0
    pictures = torch.rand(2, 3, 64, 64)

    start_from(narrow, weights(wide), "conv_small")

    torch.testing.assert_close(narrow.eval()(pictures), wide.eval()(pictures))


def test_hybrid_takes_the_blocks_that_both_have() -> None:
    """Blocks of the same kind are taken over whole; the others are new and hardly heard."""
    source, target = network("conv_medium"), network("hybrid_medium", seed=1)

    start_from(target, weights(source), "conv_medium")

    state, given = weights(target), weights(source)
    assert torch.equal(
        state["blocks.2.3.pw_exp.conv.weight"], given["blocks.2.3.pw_exp.conv.weight"]
    )
    assert torch.equal(state["blocks.2.1.pw_exp.bn.bias"], given["blocks.2.6.pw_exp.bn.bias"])
    assert set(state["blocks.2.3.layer_scale.gamma"].tolist()) == {1.0}
    attention = state["blocks.2.4.layer_scale.gamma"]
    assert attention.tolist() == pytest.approx([FRESH_LAYER_SCALE] * 160)
    assert state["blocks.3.6.pw_exp.conv.weight"].shape[0] == 512


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("conv_medium", "conv_small"),
        ("conv_small", "conv_medium"),
        ("conv_small", "conv_small_035"),
    ],
)
def test_networks_of_other_make_are_refused(target: str, source: str) -> None:
    """Neither another family nor a narrower network can be cut to size."""
    with pytest.raises(TrainError, match=f"{target} cannot start from"):
        start_from(create_model(target, 3), weights(create_model(source, 3)), source)


def test_weights_of_another_architecture_than_named_are_refused() -> None:
    """A mislabelled file is one sentence, not a key error."""
    with pytest.raises(TrainError, match="they are not of conv_medium, or have fewer channels"):
        start_from(create_model("conv_medium", 3), weights(network("conv_small")), "conv_medium")


def test_run_begins_with_the_given_weights(config: TrainConfig, tmp_path: Path) -> None:
    """The file's hash is part of the recipe, its place is not."""
    path = tmp_path / "start.safetensors"
    source = network("conv_small_050", 2)
    save_file(weights(source), path)
    start = Start.of(path, name="conv_small_050", architecture="conv_small_050")
    chosen = config.model_copy(update={"start": start, "epochs": 1})

    run = begin(chosen, training_pictures(chosen))

    assert torch.equal(run.model.conv_stem.weight, source.conv_stem.weight)
    assert "--from conv_small_050" in chosen.command()
    assert str(tmp_path) not in str(chosen.recipe())
    assert len(train(chosen).curve) == 1
    assert len(train(chosen).curve) == 1


def test_another_file_in_its_place_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    """A run is never quietly begun with other weights than it names."""
    path = tmp_path / "start.safetensors"
    save_file(weights(network("conv_small_035", 2)), path)
    start = Start.of(path, name="mine", architecture="conv_small_035")
    save_file(weights(network("conv_small_035", 2, seed=1)), path)

    with pytest.raises(TrainError, match="not the file that this run started from"):
        train(config.model_copy(update={"start": start}))


def test_strongest_keeps_the_order_of_channels() -> None:
    """Indices of the largest values, ascending."""
    assert strongest(torch.tensor([0.5, 3.0, 0.1, 2.0]), 2).tolist() == [1, 3]
