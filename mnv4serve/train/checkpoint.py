"""The state of a run on disk: written whole or not at all, read back without executing anything."""

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from mnv4serve.errors import TrainError

INSTEAD = "start afresh with --no-resume, or in another folder"
"""What to do with a file that no run can go on from."""


class Checkpoint(TypedDict):
    """A run after a whole number of epochs; randomness is a function of seed and epoch."""

    recipe: Mapping[str, object]
    data_hash: str
    started: str
    model: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimiser: Mapping[str, object]
    curve: list[dict[str, object]]


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once; where that fails the old one stays as it was."""
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise TrainError(f"cannot write {path}: {error.strerror}; the old one is kept") from error


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    try:
        checkpoint: Checkpoint = torch.load(path, weights_only=True)
    except Exception as error:  # whatever damaged bytes lead its reader to
        raise TrainError(f"{path} is not a readable checkpoint: {INSTEAD}") from error
    if not isinstance(checkpoint, dict) or checkpoint.keys() != Checkpoint.__annotations__.keys():
        raise TrainError(f"{path} is not a checkpoint of a training run: {INSTEAD}")
    return checkpoint
