"""Files of a release are replaced whole or not at all."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnv4serve.build.files import replace_file
from mnv4serve.errors import StorageError


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """As on a full disk: this process may write no longer files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    """Nothing half-written keeps its name or stays beside it."""
    path = tmp_path / "deep" / "ranges.json"
    replace_file(path, b"old")

    with (
        room_for(100),
        pytest.raises(StorageError, match=r"ranges\.json cannot be written, the old"),
    ):
        replace_file(path, bytes(1000))

    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
