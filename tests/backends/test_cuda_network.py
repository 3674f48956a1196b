"""Behaviour of mnv4serve.backends.cuda_network and mnv4serve.build.cuda."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mnv4serve.arch.blocks import LayerScale
from mnv4serve.arch.model import create_model
from mnv4serve.backends.cuda_network import FORMAT, read
from mnv4serve.build.cuda import cuda_model
from mnv4serve.build.graph import capture
from mnv4serve.build.verify import deviation, reference_logits
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing
from tests.backends.cuda_double import write_program
from tests.backends.tiny import LABELS, SIDE, artifact, pictures
from tests.tiny_zoo import _settled

PREPROCESSING = Preprocessing(resize="squash", mean=(0.48, 0.45, 0.4), std=(0.22, 0.25, 0.2))


@pytest.mark.parametrize("architecture", ["conv_small_035", "hybrid_medium"])
def test_the_file_computes_what_the_reference_computes(architecture: str, tmp_path: Path) -> None:
    """Convolutions, attention, layer scale and normalisation, for any batch."""
    torch.manual_seed(0)
    model = create_model(architecture, LABELS)
    for module in model.modules():
        if isinstance(module, LayerScale):
            torch.nn.init.uniform_(module.gamma, 0.1, 0.9)
    pixels = pictures(8)
    _settled(model, pixels)
    path = tmp_path / "model.safetensors"
    path.write_bytes(cuda_model(capture(model, SIDE), PREPROCESSING, SIDE, Precision.FP32))
    network = read(artifact(path, BackendName.CUDA))

    with torch.no_grad():
        logits = network(torch.from_numpy(pixels)).numpy()
        single = network(torch.from_numpy(pixels[:1])).numpy()

    assert deviation(logits, reference_logits(model, pixels, PREPROCESSING)) < 1e-3
    assert deviation(np.concatenate([single, logits[1:]]), logits) < 1e-3


def test_weights_are_stored_as_they_are_computed_with(tmp_path: Path) -> None:
    """Half precision halves the file; the normalisation of pixels stays exact."""
    sizes = {}
    for precision in (Precision.FP32, Precision.FP16, Precision.BF16):
        path = write_program(tmp_path / f"{precision}.safetensors", precision=precision)
        network = read(artifact(path, BackendName.CUDA, precision=precision))
        with torch.no_grad():
            logits = network(torch.from_numpy(pictures(2)))
        sizes[precision] = sum(buffer.nbytes for buffer in network.buffers())

        assert logits.dtype is torch.float32
        assert logits.shape == (2, LABELS)

    assert sizes[Precision.FP16] == sizes[Precision.BF16] < 0.6 * sizes[Precision.FP32]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the command that builds it."""
    with pytest.raises(ArtifactMissing, match="mnv4serve build"):
        read(artifact(tmp_path / "none", BackendName.CUDA))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """Wherever it ends."""
    whole = write_program(tmp_path / "whole.safetensors").read_bytes()
    for size in (0, 5, 200, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "part.safetensors"
        path.write_bytes(whole[:size])

        with pytest.raises(ArtifactMismatch, match="cannot be read"):
            read(artifact(path, BackendName.CUDA))


def test_another_size_or_number_of_labels_is_refused(tmp_path: Path) -> None:
    """The file has to be what its artifact says."""
    path = write_program(tmp_path / "model.safetensors")

    with pytest.raises(ArtifactMismatch, match="64 pixels"):
        read(artifact(path, BackendName.CUDA, resolution=64))
    with pytest.raises(ArtifactMismatch, match="logits"):
        read(artifact(path, BackendName.CUDA, n_labels=LABELS + 1))


@pytest.mark.parametrize(
    ("at", "change"),
    [
        (0, {"kind": "Exec"}),
        (0, {"code": "import os"}),
        (0, {"groups": 0}),
        (0, {"stride": [-1, 1]}),
        (0, {"constants": ["1.0", "absent"]}),
        (0, {"constants": ["1.0"]}),
        (0, {"constants": ["1.0", "5.0"]}),
        (1, {"inputs": [7]}),
        (1, {"inputs": [0, 1]}),
        (3, {"shape": [0, 0]}),
        (3, {"shape": [4, 8]}),
        (4, {"inputs": ["__import__('os')"]}),
    ],
)
def test_a_hostile_program_is_refused(at: int, change: dict[str, object], tmp_path: Path) -> None:
    """Operators, fields and references that the format does not have; nothing of it is run."""
    path = write_program(tmp_path / "model.safetensors")
    with safe_open(path, "pt") as file:
        program = json.loads(file.metadata()["program"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    program["operations"][at] |= change
    save_file(tensors, path, {"format": FORMAT, "program": json.dumps(program)})

    with pytest.raises(ArtifactMismatch, match="build --force"):
        read(artifact(path, BackendName.CUDA))


def test_names_in_a_file_become_no_code(tmp_path: Path) -> None:
    """A tensor may be called anything: the module's source never holds its name."""
    path = write_program(tmp_path / "model.safetensors")
    name = "x = print('run')\n"
    with safe_open(path, "pt") as file:
        content = file.metadata()["program"].replace('"1.0"', json.dumps(name))
        tensors = {name if key == "1.0" else key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"format": FORMAT, "program": content})

    network = read(artifact(path, BackendName.CUDA))

    assert "print" not in network.code
    assert np.isfinite(network(torch.from_numpy(pictures(1))).numpy()).all()
