"""What pictures of the user's own are good for without labels: ranges for int8, and proof."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnv4serve.build import own
from mnv4serve.build.assemble import reference_model
from mnv4serve.build.graph import capture
from mnv4serve.build.ranges import calibrate, format_ranges
from mnv4serve.catalog import Catalog, Preprocessing, Variant
from mnv4serve.domain import Precision
from mnv4serve.errors import CatalogError, ServeError
from mnv4serve.images import decode, read_header

ENOUGH = 512
FEWEST = 32
PROVING = 32
BATCH = 8
PROOF_SIDE = 96
ANY_SIZE = 1 << 62


@dataclass(frozen=True, slots=True)
class Ranged:
    """A catalog whose variant has ranges now, and the pictures that gave them."""

    catalog: Catalog
    pictures: int
    unreadable: tuple[Path, ...]


@dataclass(slots=True)
class _Reader:
    """Decodes pictures until there are enough of them."""

    folder: Path
    resolution: int
    preprocessing: Preprocessing
    enough: int = ENOUGH
    fewest: int = FEWEST
    read: int = 0
    unreadable: list[Path] = field(default_factory=list)

    def batches(self, files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
        """Raises CatalogError at the end where there were too few."""
        waiting: list[NDArray[np.uint8]] = []
        for path in files:
            if self.read == self.enough:
                break
            pixels = self._pixels(path)
            if pixels is not None:
                waiting.append(pixels)
                self.read += 1
            if len(waiting) == BATCH:
                yield np.stack(waiting)
                waiting = []
        _refuse_few(self.folder, self.read, self.fewest)
        if waiting:
            yield np.stack(waiting)

    def _pixels(self, path: Path) -> NDArray[np.uint8] | None:
        try:
            image = path.read_bytes()
            picture = read_header(image, max_pixels=ANY_SIZE)
            return decode(
                image, picture, resolution=self.resolution, preprocessing=self.preprocessing
            )
        except (OSError, ServeError):
            self.unreadable.append(path)
            return None


def picture_files(folder: Path) -> tuple[Path, ...]:
    """Every visible file below a folder, in an order that mixes its sub-folders.

    Raises CatalogError where there are too few to compute ranges from.
    """
    if not folder.is_dir():
        raise CatalogError(f"{folder} is no folder: name one with pictures like yours")
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    ]
    _refuse_few(folder, len(found))
    return tuple(sorted(found, key=lambda path: _mixed(path.relative_to(folder))))


def proof_pictures(files: Sequence[Path], preprocessing: Preprocessing) -> bytes:
    """Some pictures, as small as they may be, to verify the builds of a zoo of one's own with.

    A network is exact on pictures like those it was trained on; on others int8 may clip. Where
    there are few, all of them.
    """
    reader = _Reader(files[0].parent, PROOF_SIDE, preprocessing, enough=PROVING, fewest=1)
    packed = io.BytesIO()
    np.savez_compressed(packed, pictures=np.concatenate(list(reader.batches(files))))
    return packed.getvalue()


def add_ranges(
    catalog: Catalog, variant: Variant, files: Sequence[Path], *, folder: Path
) -> Ranged:
    """Compute a variant's ranges and write them into its zoo, in the place of older ones.

    Raises CatalogError where too few files are readable pictures.
    """
    _, zoo = catalog.zoo()
    preprocessing = zoo.preprocessing_of(variant.name)
    graph = capture(reference_model(catalog, zoo, variant), variant.resolution)
    reader = _Reader(folder, variant.resolution, preprocessing)
    ranges = calibrate(graph, preprocessing, variant.resolution, reader.batches(files))
    file = own.put(catalog, f"weights/{variant.name}.ranges.json", format_ranges(ranges))
    exact = [entry for entry in variant.certified if entry.precision is not Precision.INT8]
    ranged = variant.model_copy(update={"ranges": file, "certified": tuple(exact)})
    larger = own.save(catalog, zoo.checkpoint(variant.checkpoint), ranged)
    return Ranged(larger, reader.read, tuple(reader.unreadable))


def _mixed(path: Path) -> str:
    return hashlib.sha256(path.as_posix().encode()).hexdigest()


def _refuse_few(folder: Path, count: int, fewest: int = FEWEST) -> None:
    if count < fewest:
        raise CatalogError(
            f"{folder} has {count} readable pictures; at least {fewest} of the kind that will be "
            "served are needed"
        )
