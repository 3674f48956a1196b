"""What a run is shown: batches of views with their targets, a function of seed and epoch alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from numpy.random import Generator
from torch import Tensor

from mnv4serve.train.augment import augment, mix
from mnv4serve.train.config import TrainConfig
from mnv4serve.train.data import Pictures

SOURCE_OVERSIZE = 1.5
"""Training pictures are kept this much larger than the resolution, so that crops stay sharp."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Normalised views with soft targets, and which stretch of them comes from which set."""

    images: Tensor
    targets: Tensor
    parts: tuple[tuple[str, int], ...] = ()


class Feed(Protocol):
    """Where a trainer takes its batches from."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""

    def prepare(self, resolutions: Sequence[int]) -> None:
        """Bring into memory what epochs at these resolutions need."""

    def batches(self, epoch: int, random: Generator) -> Iterator[Batch]:
        """The batches of one epoch, at the resolutions prepared last."""


class Sources:
    """The training pictures in memory, at the sizes that views are cut from."""

    def __init__(self, pictures: Pictures) -> None:
        self.rows = pictures.rows(dev=False)
        self.labels = pictures.labels(self.rows)
        self.classes = len(pictures.index.classes)
        self._pictures = pictures
        self._by_size: dict[int, Tensor] = {}

    def prepare(self, resolutions: Sequence[int]) -> None:
        """Load the sizes that these resolutions need and forget all others."""
        sizes = {self._size(resolution) for resolution in resolutions}
        self._by_size = {size: kept for size, kept in self._by_size.items() if size in sizes}
        for size in sizes - self._by_size.keys():
            self._by_size[size] = self._pictures.resized(self.rows, size)

    def at(self, resolution: int) -> Tensor:
        return self._by_size[self._size(resolution)]

    def _size(self, resolution: int) -> int:
        largest: int = self._pictures.pixels.shape[-1]
        return max(resolution, min(int(resolution * SOURCE_OVERSIZE), largest))


class LabelledFeed:
    """Augmented pictures with their folders' labels, in a new order each epoch."""

    def __init__(self, config: TrainConfig, pictures: Pictures) -> None:
        self.config = config
        self.sources = Sources(pictures)
        self.resolutions: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        return len(self.sources.rows) // self.config.batch_size

    def prepare(self, resolutions: Sequence[int]) -> None:
        self.resolutions = tuple(resolutions)
        self.sources.prepare(resolutions)

    def batches(self, epoch: int, random: Generator) -> Iterator[Batch]:
        """An incomplete batch is left out."""
        del epoch  # the generator was made from it
        size, settings = self.config.batch_size, self.config.augmentation
        order = torch.from_numpy(random.permutation(len(self.sources.rows)))
        for start in range(0, self.steps * size, size):
            rows = order[start : start + size]
            resolution = draw(self.resolutions, random)
            source, labels = self.sources.at(resolution)[rows], self.sources.labels[rows]
            views = augment(source, resolution, settings, random)
            images, targets = mix(views, labels, self.sources.classes, settings, random)
            yield Batch(images.contiguous(memory_format=torch.channels_last), targets)


def draw(resolutions: Sequence[int], random: Generator) -> int:
    """One of several resolutions; nothing is drawn where there is no choice."""
    return resolutions[0 if len(resolutions) == 1 else int(random.integers(len(resolutions)))]
