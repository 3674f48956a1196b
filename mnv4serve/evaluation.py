"""Accuracy of an artifact on a folder of pictures, decoded and inferred as they are when served."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Backend
from mnv4serve.catalog import Label, Preprocessing
from mnv4serve.errors import CatalogError, ServeError
from mnv4serve.images import decode, read_header

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""
ANY_SIZE = 1 << 62

Progress = Callable[[int, int], None]
"""Told how many pictures are done and how many there are."""


@dataclass(frozen=True, slots=True)
class Score:
    """How many of a folder's pictures were labelled right."""

    correct: tuple[bool, ...]
    """By picture, in the order of their paths, so that two arms can be compared in pairs."""
    unreadable: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.correct)

    @property
    def accuracy(self) -> float:
        return sum(self.correct) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(sum(self.correct), self.n)


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927); it stays in [0, 1] at the ends."""
    share, z2 = correct / n, Z_95 * Z_95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def labelled_files(folder: Path, labels: Sequence[Label]) -> list[tuple[Path, int]]:
    """Every file of the class folders with its label; folders are named by id or by name.

    Raises CatalogError where a folder names no label or there is nothing to read.
    """
    index = {name: i for i, label in enumerate(labels) for name in (label.id, label.name)}
    if not folder.is_dir():
        raise CatalogError(f"{folder} is no folder")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    unknown = [entry.name for entry in classes if entry.name not in index]
    if unknown:
        raise CatalogError(f"{folder} holds {unknown[0]}, which is no label of this zoo")
    files = [(f, index[c.name]) for c in classes for f in sorted(c.iterdir()) if f.is_file()]
    if not files:
        raise CatalogError(f"{folder} holds no class folders with pictures")
    return files


def evaluate(
    backend: Backend,
    files: Sequence[tuple[Path, int]],
    *,
    resolution: int,
    preprocessing: Preprocessing,
    slots: int = 1,
    progress: Progress | None = None,
) -> Score:
    """Label every file on `slots` threads; unreadable pictures are listed, not counted.

    Raises CatalogError where not one picture can be read.
    """
    free: SimpleQueue[int] = SimpleQueue()
    for slot in range(slots):
        free.put(slot)

    def judge(file: tuple[Path, int]) -> bool | None:
        pixels = _pixels(file[0], resolution, preprocessing)
        if pixels is None:
            return None
        slot = free.get()
        try:
            return int(backend.infer(pixels[np.newaxis], slot)[0].argmax()) == file[1]
        finally:
            free.put(slot)

    with ThreadPoolExecutor(slots) as workers:
        marks = list(_counted(workers.map(judge, files), len(files), progress))
    pairs = list(zip(files, marks, strict=True))
    unreadable = tuple(path.name for (path, _), mark in pairs if mark is None)
    correct = tuple(mark for _, mark in pairs if mark is not None)
    if not correct:
        raise CatalogError(f"none of the {len(files)} files is a readable picture")
    return Score(correct, unreadable)


def _pixels(path: Path, resolution: int, preprocessing: Preprocessing) -> NDArray[np.uint8] | None:
    image = path.read_bytes()
    try:
        picture = read_header(image, max_pixels=ANY_SIZE)
        return decode(image, picture, resolution=resolution, preprocessing=preprocessing)
    except ServeError:
        return None


def _counted(
    marks: Iterator[bool | None], total: int, progress: Progress | None
) -> Iterator[bool | None]:
    for done, mark in enumerate(marks, start=1):
        yield mark
        if progress:
            progress(done, total)
