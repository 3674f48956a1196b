"""Tests of writing and reading a run's state."""

from pathlib import Path

import pytest
import torch

from mnv4serve.errors import TrainError
from mnv4serve.train.checkpoint import load_checkpoint, write_whole


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """A write that fails half-way leaves what was there, and no debris."""
    path = tmp_path / "state"
    write_whole(path, b"old")
    (tmp_path / "state.part").symlink_to("/dev/full")

    with pytest.raises(TrainError, match="No space left on device; the old one is kept"):
        write_whole(path, b"new")

    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    """The first failure is told, not the one of cleaning up after it."""
    (tmp_path / "taken").write_bytes(b"")

    with pytest.raises(TrainError, match=r"taken/state: .*the old one is kept"):
        write_whole(tmp_path / "taken" / "state", b"new")


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"\x80\x02\x8a\xff", b"PK\3\4"])
def test_broken_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    """A file that is no checkpoint is named."""
    path = tmp_path / "state.pt"
    path.write_bytes(content)

    with pytest.raises(TrainError, match=r"state\.pt is not a readable checkpoint"):
        load_checkpoint(path)


def test_checkpoint_that_would_execute_code_is_refused(tmp_path: Path) -> None:
    """Reading a checkpoint never runs what somebody put into it."""
    path = tmp_path / "state.pt"
    torch.save({"model": pytest.raises}, path)

    with pytest.raises(TrainError, match="not a readable checkpoint"):
        load_checkpoint(path)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Weights alone are no state to go on from."""
    path = tmp_path / "state.pt"
    torch.save({"model": {}}, path)

    with pytest.raises(TrainError, match="not a checkpoint of a training run"):
        load_checkpoint(path)
