"""A models/ folder with one small network of random weights, built the way released ones are."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from mnv4serve.arch.model import MobileNetV4, create_model
from mnv4serve.build.verify import enlarge, reference_logits
from mnv4serve.catalog import Preprocessing

ARCHITECTURE = "conv_small_035"
RESOLUTIONS = (32, 64)
LABELS = ("red", "green", "blue")
PREPROCESSING = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CERTIFIED = (("cpu", "fp32"), ("cpu", "bf16"), ("onnx", "fp32"))
STATISTICS = ("running_mean", "running_var")


def write_tiny_zoo(folder: Path) -> Path:
    """Write catalog, weights, statistics and reference logits; the folder."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "pictures.npz", pictures=pictures)
    torch.manual_seed(0)
    model = create_model(ARCHITECTURE, len(LABELS))
    nn.init.normal_(model.classifier.weight, std=0.5)
    parameters = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith((*STATISTICS, "num_batches_tracked"))
    }
    entries = [_head(folder)]
    for resolution in RESOLUTIONS:
        pixels = enlarge(pictures, resolution)
        statistics = _settled(model, pixels)
        name = f"{ARCHITECTURE}@{resolution}"
        save_file(statistics, folder / f"{name}.bn.safetensors")
        logits = reference_logits(model, pixels, PREPROCESSING)
        np.savez(folder / f"{name}.npz", logits=logits)
        entries.append(_variant(folder, name, resolution))
    save_file(parameters | statistics, folder / "weights.safetensors")
    entries.insert(1, _checkpoint(folder))
    (folder / "catalog.toml").write_text("\n".join(entries), encoding="utf-8")
    return folder


def _settled(model: MobileNetV4, pixels: np.ndarray) -> dict[str, torch.Tensor]:
    """Batch-norm statistics of a resolution, so that activations are of a usual size."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.inference_mode():
        model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
    model.eval()
    return {
        name: tensor.clone()
        for name, tensor in model.state_dict().items()
        if name.endswith(STATISTICS)
    }


def _file(folder: Path, name: str) -> str:
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return f'{{path = "{name}", sha256 = "{digest}"}}'


def _head(folder: Path) -> str:
    labels = ", ".join(f'{{id = "{name}", name = "{name}"}}' for name in LABELS)
    return f"""default_zoo = "tiny"
[zoos.tiny]
title = "Three colours, guessed"
labels = [{labels}]
preprocessing = {{resize = "squash", mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5]}}
pictures = {_file(folder, "pictures.npz")}
"""


def _checkpoint(folder: Path) -> str:
    return f"""[[zoos.tiny.checkpoints]]
name = "{ARCHITECTURE}"
architecture = "{ARCHITECTURE}"
weights = {_file(folder, "weights.safetensors")}
data = "none"
command = "none"
seed = 0
date = "2026-01-01"
card = "none"
"""


def _variant(folder: Path, name: str, resolution: int) -> str:
    certified = "\n".join(
        f"""[[zoos.tiny.variants.certified]]
backend = "{backend}"
precision = "{precision}"
accuracy = {0.5 + resolution / 1000}
n = 100
split = "made up"
deviation = 0.1"""
        for backend, precision in CERTIFIED
    )
    return f"""[[zoos.tiny.variants]]
name = "{name}"
checkpoint = "{ARCHITECTURE}"
resolution = {resolution}
batch_norm = {_file(folder, f"{name}.bn.safetensors")}
reference = {_file(folder, f"{name}.npz")}
{certified}
"""
