"""Accuracy of an artifact on a folder of pictures, decoded and inferred as they are when served."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Backend
from mnv4serve.catalog import Label, Preprocessing
from mnv4serve.errors import CatalogError, ServeError
from mnv4serve.images import decode, read_header
from mnv4serve.significance import wilson_interval

ANY_SIZE = 1 << 62

Read = Callable[[Path], NDArray[np.uint8] | None]
"""A file to pixels, None where it is no readable picture."""
Progress = Callable[[int, int], None]
"""Told how many pictures are done and how many there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What an artifact answered to a folder's pictures."""

    logits: NDArray[np.float32]
    """[pictures, labels], in the order of their paths, so that arms can be compared in pairs."""
    labels: NDArray[np.int64]
    """What the pictures show."""
    names: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """By picture, whether its label has the largest logit."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)

    @property
    def n(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> int:
        return int(self.correct.sum())

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.right, self.n)


def labelled_files(folder: Path, labels: Sequence[Label]) -> list[tuple[Path, int]]:
    """Every visible file of the class folders with its label; folders are named by id or by name.

    Raises CatalogError where a folder names no label or there is nothing to read.
    """
    index = {name: i for i, label in enumerate(labels) for name in (label.id, label.name)}
    if not folder.is_dir():
        raise CatalogError(
            f"{folder} is no folder: name one with a folder of pictures for each class"
        )
    classes = [entry for entry in _visible(folder) if entry.is_dir()]
    unknown = [entry.name for entry in classes if entry.name not in index]
    if unknown:
        names = " or ".join(dict.fromkeys((labels[0].id, labels[0].name)))
        raise CatalogError(
            f"{folder} holds {unknown[0]}, which is no label of this zoo: name each class folder "
            f"after a label's id or name, as {names}"
        )
    files = [(f, index[c.name]) for c in classes for f in _visible(c) if not f.is_dir()]
    if not files:
        raise CatalogError(f"{folder} holds no class folders with pictures: it needs one a class")
    return files


def reader(resolution: int, preprocessing: Preprocessing) -> Read:
    """Reads files as they are read when served."""

    def read(path: Path) -> NDArray[np.uint8] | None:
        try:
            image = path.read_bytes()
            picture = read_header(image, max_pixels=ANY_SIZE)
            return decode(image, picture, resolution=resolution, preprocessing=preprocessing)
        except (OSError, ServeError):
            return None

    return read


def evaluate(
    backend: Backend,
    files: Sequence[tuple[Path, int]],
    *,
    read: Read,
    slots: int = 1,
    progress: Progress | None = None,
) -> Score:
    """Label every file on `slots` threads; unreadable pictures are listed, not counted.

    Raises CatalogError where not one picture can be read.
    """
    free: SimpleQueue[int] = SimpleQueue()
    for slot in range(slots):
        free.put(slot)

    def answer(file: tuple[Path, int]) -> NDArray[np.float32] | None:
        pixels = read(file[0])
        if pixels is None:
            return None
        slot = free.get()
        try:
            logits: NDArray[np.float32] = backend.infer(pixels[np.newaxis], slot)[0].copy()
        finally:
            free.put(slot)
        return logits

    with ThreadPoolExecutor(slots) as workers:
        answers = list(_counted(workers.map(answer, files), len(files), progress))
    return _score(files, answers)


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _score(
    files: Sequence[tuple[Path, int]], answers: Sequence[NDArray[np.float32] | None]
) -> Score:
    pairs = list(zip(files, answers, strict=True))
    read = [(file, logits) for file, logits in pairs if logits is not None]
    if not read:
        raise CatalogError(f"none of the {len(files)} files is a readable picture")
    return Score(
        logits=np.stack([logits for _, logits in read]),
        labels=np.array([label for (_, label), _ in read], np.int64),
        names=tuple(path.name for (path, _), _ in read),
        unreadable=tuple(path.name for (path, _), logits in pairs if logits is None),
    )


def _counted(
    answers: Iterator[NDArray[np.float32] | None], total: int, progress: Progress | None
) -> Iterator[NDArray[np.float32] | None]:
    for done, answer in enumerate(answers, start=1):
        yield answer
        if progress:
            progress(done, total)
