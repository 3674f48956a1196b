"""Publishing artifacts: whole or not at all, one builder at a time."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnv4serve.artifacts import MANIFEST, Manifest, describe_file, folder_of
from mnv4serve.errors import StorageError

PARTIAL = ".partial-"

Make = Callable[[Path], tuple[tuple[Path, ...], float]]
"""Writes an artifact's files into a folder; returns them, the one to load first, and the
deviation that was measured."""


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Keep other builders out of a state folder; a builder that died leaves no lock behind."""
    folder = folder_of(state_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _refused(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _sweep(folder)
        yield
    finally:
        os.close(handle)


def publish(state_dir: Path, digest: str, ingredients: dict[str, Any], make: Make) -> None:
    """Make an artifact aside and move it into place with its manifest; needs the lock.

    Raises StorageError where the disk is full; what was made half is removed in any case.
    """
    folder = folder_of(state_dir)
    try:
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
        try:
            files, deviation = make(partial)
            manifest = Manifest(
                digest=digest,
                ingredients=ingredients,
                deviation=deviation,
                files=tuple(describe_file(file) for file in files),
            )
            (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
            _replace(partial, folder / digest)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise _refused(folder, error) from error


def _replace(partial: Path, final: Path) -> None:
    """Two renames: a folder cannot be put over one that holds files."""
    if final.exists():
        final.rename(partial.with_name(partial.name + "-old"))
    partial.rename(final)
    shutil.rmtree(partial.with_name(partial.name + "-old"), ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what killed builders left; under the lock nobody else is building."""
    for leftover in folder.glob(PARTIAL + "*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _refused(folder: Path, error: OSError) -> StorageError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StorageError(
            f"no space left for artifacts in {folder}: free some or move --state-dir"
        )
    return StorageError(f"artifacts cannot be written to {folder}: {error.strerror or error}")
