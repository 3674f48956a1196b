"""Breaks the GPU for this process and prints what the backend says to that."""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from mnv4serve.backends import Artifact, open_backend
from mnv4serve.backends.cuda_network import DTYPES, Program
from mnv4serve.domain import BackendName
from mnv4serve.errors import DeviceLost


def described(path: Path) -> Artifact:
    """An artifact as its file says it is."""
    with safe_open(path, "pt") as file:
        program = Program.model_validate_json(file.metadata()["program"])
        dtype = file.get_tensor("1.0").dtype
    precision = next(name for name, known in DTYPES.items() if known is dtype)
    side, labels = program.resolution, program.n_labels
    return Artifact(path, BackendName.CUDA, precision, "broken", side, labels, "")


def main(path: Path) -> None:
    artifact = described(path)
    backend = open_backend(artifact, device="cuda:0", slots=1, threads=1)
    pixels = np.zeros((1, artifact.resolution, artifact.resolution, 3), np.uint8)
    backend.infer(pixels)
    torch.zeros(1, device="cuda")[torch.tensor([1 << 20], device="cuda")]  # out of bounds
    try:
        backend.infer(pixels)
    except DeviceLost as error:
        sys.stdout.write(f"{error}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
