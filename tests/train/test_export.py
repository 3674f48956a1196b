"""Tests of turning a run into weights to serve."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mnv4serve.arch.model import create_model, load_weights
from mnv4serve.errors import TrainError
from mnv4serve.train.config import TrainConfig
from mnv4serve.train.data import load_pictures
from mnv4serve.train.evaluate import accuracy
from mnv4serve.train.export import ExportRecord, export, half
from mnv4serve.train.loop import train
from mnv4serve.train.run import labelled


def test_exported_weights_are_as_right_as_their_record_says(
    config: TrainConfig, tmp_path: Path
) -> None:
    """What is measured is what was rounded and written, at every resolution."""
    train(config)

    record = export(config, tmp_path / "weights", (32, 64))

    target = tmp_path / "weights"
    assert sorted(path.name for path in target.iterdir()) == [
        "conv_small_035.json",
        "conv_small_035.safetensors",
        "conv_small_035@32.bn.safetensors",
        "conv_small_035@64.bn.safetensors",
    ]
    assert ExportRecord.model_validate_json((target / "conv_small_035.json").read_bytes()) == record
    weights = load_file(target / "conv_small_035.safetensors")
    assert {v.dtype for v in weights.values()} == {torch.float16}
    for resolution in (32, 64):
        pictures = load_pictures(config.data / "train", config.cache_folder, size=resolution)
        data = labelled(pictures, resolution, dev=True)
        model = create_model("conv_small_035", 2)
        load_weights(
            model,
            target / "conv_small_035.safetensors",
            target / f"conv_small_035@{resolution}.bn.safetensors",
        )
        assert accuracy(model, data, resolution) == record.dev_accuracy[resolution]


def test_plain_class_folders_are_enough(config: TrainConfig, tmp_path: Path) -> None:
    """There need be no `train/` and no `val/`."""
    plain = config.model_copy(update={"data": config.data / "train", "epochs": 1})
    train(plain)

    record = export(plain, tmp_path / "weights", (32,))

    assert set(record.dev_accuracy) == {32}


def test_unfinished_run_is_not_exported(config: TrainConfig, tmp_path: Path) -> None:
    """There has to be a checkpoint of the last epoch."""
    with pytest.raises(TrainError, match="no finished run of conv_small_035"):
        export(config, tmp_path, (32,))


def test_values_beyond_half_precision_are_refused() -> None:
    """Infinity must not be shipped silently."""
    with pytest.raises(TrainError, match="do not fit half precision, b first of 1: "):
        half({"a": torch.ones(2), "b": torch.full((2,), 1e6)})
