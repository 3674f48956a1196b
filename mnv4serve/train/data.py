"""A folder of class folders, decoded once into a memory-mapped array of uint8 pictures."""

import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.functional import interpolate

from mnv4serve.catalog import Preprocessing
from mnv4serve.errors import ServeError, TrainError
from mnv4serve.images import decode, read_header

FEWEST_CLASSES = 2
DEV_SHARE = 10
RESIZE_CHUNK = 256
MAX_PIXELS = 200_000_000
PREPROCESSING = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""What training pictures go through, and so what the weights expect when they are served."""

Advance = Callable[[int, int], None]
"""Called with the number of files done and of all files."""


class Index(BaseModel):
    """What the decoded array holds, row by row, and what could not be decoded."""

    model_config = ConfigDict(frozen=True)

    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    unreadable: tuple[str, ...]
    data_hash: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """Square RGB pictures, memory-mapped as [N, 3, side, side], with their index."""

    pixels: NDArray[np.uint8]
    index: Index

    def rows(self, *, dev: bool) -> NDArray[np.int64]:
        """Row numbers of the dev split, or of all the others."""
        chosen = [row for row, name in enumerate(self.index.names) if is_dev(name) == dev]
        return np.asarray(chosen, np.int64)

    def labels(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.tensor(self.index.labels)[torch.from_numpy(rows)]

    def resized(self, rows: NDArray[np.int64], size: int) -> Tensor:
        """Copies of some rows as one uint8 tensor."""
        out = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
        for start in range(0, len(rows), RESIZE_CHUNK):
            chunk = torch.from_numpy(self.pixels[rows[start : start + RESIZE_CHUNK]])
            out[start : start + RESIZE_CHUNK] = squash(chunk, size)
        return out


@dataclass(frozen=True, slots=True)
class Listing:
    """The class folders of a folder and the files in them with their class numbers."""

    folder: Path
    classes: tuple[str, ...]
    files: tuple[tuple[Path, int], ...]

    def fingerprint(self, size: int) -> str:
        """Changes when a file is added, removed or written to."""
        digest = sha256(f"{self.folder.resolve()} {size}".encode())
        for path, label in self.files:
            digest.update(f"{path.name} {label} {_state(path)} ".encode())
        return digest.hexdigest()[:16]


def is_dev(name: str) -> bool:
    """Whether a file name falls into the tenth, by its hash, that is never trained on."""
    return int(sha256(name.encode()).hexdigest(), 16) % DEV_SHARE == 0


def squash(pictures: Tensor, size: int) -> Tensor:
    """Whole uint8 pictures resized to a square with antialiasing."""
    if pictures.shape[-2:] == (size, size):
        return pictures
    return interpolate(pictures, (size, size), mode="bilinear", antialias=True)


def split_folders(folder: Path) -> tuple[Path, Path | None]:
    """The folders of training and validation classes inside a data folder."""
    if not folder.is_dir():
        raise TrainError(
            f"{folder} is not a folder: name one with a folder of pictures for each class"
        )
    train, val = folder / "train", folder / "val"
    if not train.is_dir():
        return folder, None
    return train, val if val.is_dir() else None


def load_pictures(
    folder: Path, cache: Path, *, size: int, advance: Advance | None = None
) -> Pictures:
    """Decode every picture of a folder of class folders, or take what an earlier call decoded."""
    listing = list_pictures(folder)
    pixels_path = cache / f"pictures-{listing.fingerprint(size)}.npy"
    index_path = pixels_path.with_suffix(".json")
    if not (index_path.exists() and pixels_path.exists()):
        partial = pixels_path.with_suffix(".part")
        try:
            _reserve(partial, listing, size)
            _decode_into(listing, pixels_path, size, advance)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise TrainError(
                f"cannot cache the pictures of {folder} in {cache}: {error.strerror}, free "
                "some space or name another folder"
            ) from error
    index = Index.model_validate_json(index_path.read_bytes())
    _refuse_empty(folder, index)
    return Pictures(np.load(pixels_path, mmap_mode="r")[: len(index.names)], index)


def list_pictures(folder: Path) -> Listing:
    """Every visible file of every visible class folder, in the order of their names."""
    classes = _visible(folder, directories=True)
    if len(classes) < FEWEST_CLASSES:
        raise TrainError(
            f"{folder} has {len(classes)} class folders, training needs at least {FEWEST_CLASSES}: "
            "put the pictures of each class into a folder of its own"
        )
    files = [
        (path, label)
        for label, class_folder in enumerate(classes)
        for path in _visible(class_folder, directories=False)
    ]
    return Listing(folder, tuple(path.name for path in classes), tuple(files))


def _pixels(data: bytes, size: int) -> NDArray[np.uint8]:
    picture = read_header(data, max_pixels=MAX_PIXELS)
    return decode(data, picture, resolution=size, preprocessing=PREPROCESSING)


def _visible(folder: Path, *, directories: bool) -> list[Path]:
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in entries if path.is_dir() == directories]


def _state(path: Path) -> str:
    """Size and time of a file; nothing of one that cannot be reached, as behind a broken link."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _content(path: Path) -> bytes:
    """A file's bytes; none where it cannot be read, which is no picture either."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _reserve(partial: Path, listing: Listing, size: int) -> None:
    """Take the room at once: a mapped file that outgrows its disk would end the process."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    shape = (max(1, len(listing.files)), 3, size, size)
    mapped = open_memmap(partial, "w+", np.uint8, shape)
    with partial.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, mapped.offset + mapped.nbytes)


def _decode_into(listing: Listing, target: Path, size: int, advance: Advance | None) -> None:
    partial = target.with_suffix(".part")
    pixels, count = open_memmap(partial, "r+"), len(listing.files)
    digest, unreadable = sha256(), []
    kept: list[tuple[str, int]] = []
    for done, (path, label) in enumerate(listing.files):
        data, relative = _content(path), path.relative_to(listing.folder).as_posix()
        digest.update(f"{relative} {len(data)} ".encode() + data)
        try:
            pixels[len(kept)] = _pixels(data, size).transpose(2, 0, 1)
            kept.append((path.name, label))
        except ServeError:
            unreadable.append(relative)
        if advance:
            advance(done + 1, count)
    pixels.flush()
    partial.replace(target)
    _write_index(
        target.with_suffix(".json"),
        Index(
            classes=listing.classes,
            names=tuple(name for name, _ in kept),
            labels=tuple(label for _, label in kept),
            unreadable=tuple(unreadable),
            data_hash=digest.hexdigest(),
        ),
    )


def _write_index(path: Path, index: Index) -> None:
    partial = path.with_suffix(".json.part")
    partial.write_text(index.model_dump_json())
    partial.replace(path)


def _refuse_empty(folder: Path, index: Index) -> None:
    counts = Counter(index.labels)
    empty = [name for label, name in enumerate(index.classes) if not counts[label]]
    if empty:
        raise TrainError(f"{folder} has no readable picture of {', '.join(empty)}")
