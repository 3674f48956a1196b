"""Tests of whole networks against timm's published facts; see tests/data."""

import csv
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from mnv4serve.arch.model import (
    BATCH_NORM_STATISTICS,
    MobileNetV4,
    create_model,
    load_weights,
    macs,
    parameter_count,
)
from mnv4serve.arch.specs import ARCHITECTURES
from mnv4serve.errors import WeightsMismatch

DATA = Path(__file__).parents[1] / "data"
GOLDEN_TOLERANCE = 1e-4

# Conv + linear and attention multiply-accumulates, in 1e9, at a resolution.
PUBLISHED = [
    ("conv_small_035", 224, 1_905_384, 0.0477, 0),
    ("conv_small_050", 224, 2_238_952, 0.0647, 0),
    ("conv_small", 224, 3_774_024, 0.1860, 0),
    ("conv_small", 256, 3_774_024, 0.2422, 0),
    ("conv_medium", 256, 9_715_512, 1.0802, 0),
    ("conv_medium", 384, 9_715_512, 2.4274, 0),
    ("conv_large", 384, 32_590_864, 6.3762, 0),
    ("hybrid_medium", 224, 11_074_648, 0.9417, 0.0246),
    ("hybrid_medium", 256, 11_074_648, 1.2292, 0.0419),
    ("hybrid_large", 384, 37_764_624, 7.3721, 0.3397),
]


def fill(key: str, shape: tuple[int, ...]) -> Tensor:
    """The golden weights: a function of a tensor's name and shape alone."""
    random = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif key.endswith("running_mean"):
        values = 0.1 * random.standard_normal(shape)
    elif len(shape) == 1 and key.endswith("weight"):
        values = random.uniform(0.8, 1.2, shape)
    elif len(shape) == 1:
        values = 0.1 * random.standard_normal(shape)
    else:
        values = random.standard_normal(shape) * (1.2 / np.prod(shape[1:])) ** 0.5
    return torch.from_numpy(values.astype(np.float32))


def golden_state(model: MobileNetV4) -> dict[str, Tensor]:
    state = model.state_dict()
    return {k: fill(k, tuple(v.shape)) for k, v in state.items() if not k.endswith("tracked")}


def golden_images(resolution: int) -> Tensor:
    random = np.random.default_rng(zlib.crc32(f"image{resolution}".encode()))
    return torch.from_numpy(random.standard_normal((2, 3, resolution, resolution)).astype("f4"))


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.float32]]:
    with np.load(DATA / "timm-golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def timm_keys() -> dict[str, list[tuple[str, str]]]:
    keys = defaultdict(list)
    with (DATA / "timm-statedict.csv").open() as file:
        for row in csv.DictReader(file):
            keys[row["architecture"]].append((row["key"], row["shape"]))
    return dict(keys)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_equal_timms(architecture: str, golden: dict[str, NDArray[np.float32]]) -> None:
    """Reproducible weights and images give the logits that timm's model gave."""
    model = create_model(architecture).eval()
    load_weights(model, golden_state(model))
    expected = golden[f"mobilenetv4_{architecture}"]
    resolution = int(golden[f"mobilenetv4_{architecture}.resolution"])

    with torch.no_grad():
        logits = model(golden_images(resolution)).numpy()

    assert np.abs(logits - expected).max() < GOLDEN_TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_state_dict_equals_timms_key_by_key(
    architecture: str, timm_keys: dict[str, list[tuple[str, str]]]
) -> None:
    """Names, order and shapes of all entries are timm's."""
    with torch.device("meta"):
        state = create_model(architecture).state_dict()

    ours = [(key, "x".join(map(str, v.shape)) or "scalar") for key, v in state.items()]

    assert ours == timm_keys[architecture]


@pytest.mark.parametrize(("architecture", "resolution", "params", "conv", "attention"), PUBLISHED)
def test_cost_is_the_published_one(
    architecture: str, resolution: int, params: int, conv: float, attention: float
) -> None:
    """Parameters are exact, multiply-accumulates to the four digits that are known."""
    with torch.device("meta"):
        model = create_model(architecture)

    assert parameter_count(model) == params
    assert macs(architecture, resolution) / 1e9 == pytest.approx(conv + attention, abs=1.1e-4)


def test_few_classes_start_undecided() -> None:
    """A fresh ten-class network is no worse than guessing."""
    torch.manual_seed(0)
    model = create_model("conv_small_035", 10)

    loss = torch.nn.functional.cross_entropy(model(torch.randn(8, 3, 64, 64)), torch.arange(8))

    assert loss.item() == pytest.approx(np.log(10), abs=0.2)


@pytest.mark.parametrize("resolution", [32, 64, 96])
def test_any_multiple_of_32_is_accepted(resolution: int) -> None:
    """The same network runs at every such resolution, also on pictures that are not square."""
    model = create_model("conv_small_035", 3).eval()

    assert model(torch.zeros(1, 3, resolution, 64)).shape == (1, 3)


@pytest.mark.parametrize(("height", "width"), [(100, 96), (96, 31), (0, 32), (16, 16)])
def test_other_resolutions_are_refused(height: int, width: int) -> None:
    """The message names the size and the step."""
    model = create_model("conv_small_035", 3)

    with pytest.raises(ValueError, match=f"{height}x{width} is not divisible by 32"):
        model(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    ("architecture", "classes", "message"),
    [("conv_tiny", 10, "unknown architecture 'conv_tiny'"), ("conv_small", 0, "at least one")],
)
def test_impossible_models_are_refused(architecture: str, classes: int, message: str) -> None:
    """An unknown name or no classes at all is an error, not a broken network."""
    with pytest.raises(ValueError, match=message):
        create_model(architecture, classes)


def test_wrong_checkpoint_is_refused_with_the_first_differences() -> None:
    """Missing, misshapen and unknown entries are each named, and the rest counted."""
    model = create_model("conv_small_035", 10)
    state = golden_state(create_model("conv_small_035", 11))
    del state["conv_stem.weight"]
    state |= {f"extra{i}": torch.zeros(1) for i in range(4)}

    with pytest.raises(WeightsMismatch) as caught:
        load_weights(model, state)

    assert "conv_stem.weight is missing" in str(caught.value)
    assert "classifier.weight is 11x1280, not 10x1280" in str(caught.value)
    assert "extra0 is unknown" in str(caught.value)
    assert "and 2 more" in str(caught.value)


def test_refused_weights_leave_the_model_alone() -> None:
    """Nothing is loaded from a checkpoint of another architecture."""
    model = create_model("conv_small_035", 10)
    before = model.conv_stem.weight.clone()

    with pytest.raises(WeightsMismatch):
        load_weights(model, golden_state(create_model("conv_small_050", 10)))

    assert torch.equal(model.conv_stem.weight, before)


def test_half_precision_file_and_delta_are_loaded_as_float(tmp_path: Path) -> None:
    """Weights come from one file, another resolution's statistics from a second."""
    model = create_model("conv_small_035", 10)
    state = {k: v.half() for k, v in golden_state(model).items()}
    delta = {k: v + 1 for k, v in state.items() if k.endswith(BATCH_NORM_STATISTICS)}
    save_file(state, tmp_path / "weights.safetensors")
    save_file(delta, tmp_path / "delta.safetensors")

    load_weights(model, tmp_path / "weights.safetensors", tmp_path / "delta.safetensors")

    assert model.conv_stem.weight.dtype == torch.float32
    assert torch.equal(model.conv_stem.weight, state["conv_stem.weight"].float())
    loaded = model.state_dict()["bn1.running_mean"]
    assert torch.equal(loaded, delta["bn1.running_mean"].float())


def test_incomplete_delta_is_refused() -> None:
    """Batch-norm statistics replace all of a model's or none."""
    model = create_model("conv_small_035", 10)
    state = golden_state(model)

    with pytest.raises(WeightsMismatch, match="running_var is missing"):
        load_weights(model, state, {"bn1.running_mean": state["bn1.running_mean"]})


@pytest.mark.parametrize("content", [None, b"no tensors"])
def test_unreadable_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    """A missing or broken file is an error of its own, with its path."""
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsMismatch, match=r"weights\.safetensors"):
        load_weights(create_model("conv_small_035", 10), path)
