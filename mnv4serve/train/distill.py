"""A student that learns a teacher's stored answers to a mixture of sets.

Each batch draws from the sets in fixed shares. The student sees the views that the teacher saw,
some of them mirrored, and nothing else.
"""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from mnv4serve.errors import TrainError
from mnv4serve.train.config import Distillation, TrainConfig
from mnv4serve.train.data import Pictures
from mnv4serve.train.feed import Batch, Sources, draw
from mnv4serve.train.soft_labels import Advance, LabelFile, LabelledSet, Teacher, label
from mnv4serve.train.views import (
    Replica,
    Rows,
    ViewSet,
    draw_order,
    draw_replica,
    render,
    true_targets,
)

FLIPS = 0.5


class Stream:
    """One set's views in the order in which students meet them: replica after replica, shuffled."""

    def __init__(
        self, views: ViewSet, sources: Sources, distillation: Distillation, labels: LabelFile | None
    ) -> None:
        self.views = views
        self.sources = sources
        self.seed = distillation.seed
        self.labels = labels
        self._number = -1
        self._replica: Replica
        self._order: Rows
        self._targets: Tensor

    def take(
        self, start: int, count: int, resolution: int, random: Generator
    ) -> tuple[Tensor, Tensor]:
        """The views from a position on, with their targets."""
        images, targets, size = [], [], len(self.sources.rows)
        while count:
            self._open(start // size)
            rows = self._order[start % size :][:count]
            mirrored = random.random(len(rows)) < FLIPS
            source = self.sources.at(resolution)
            images.append(render(self._replica, source, rows, resolution, mirrored))
            targets.append(self._targets[torch.from_numpy(rows)])
            start, count = start + len(rows), count - len(rows)
        return torch.cat(images), torch.cat(targets)

    def _open(self, number: int) -> None:
        if self.labels is not None:
            number %= self._replicas(self.labels)
        if number == self._number:
            return
        size, self._number = len(self.sources.rows), number
        self._order = draw_order(self.views, size, seed=self.seed, number=number)
        self._replica = draw_replica(self.views, size, seed=self.seed, number=number)
        if self.labels is not None:
            self._targets = self.labels.read(number)
        else:
            self._targets = true_targets(
                self._replica, self.sources.labels, self.sources.classes, np.arange(size)
            )

    def _replicas(self, labels: LabelFile) -> int:
        if not labels.replicas:
            raise TrainError(f"{labels.path} holds no labels yet: let the teacher answer first")
        return labels.replicas


class DistilledFeed:
    """Batches mixed from several streams."""

    def __init__(self, config: TrainConfig, pictures: Pictures) -> None:
        assert config.distillation is not None
        chosen = config.distillation
        self.sources = Sources(pictures)
        self.counts = chosen.counts(config.batch_size)
        self.batch_size = config.batch_size
        self.resolutions: tuple[int, ...] = ()
        files = label_files(chosen, pictures)
        self.streams = [
            Stream(views, self.sources, chosen, files.get(views.name)) for views in chosen.views
        ]

    @property
    def steps(self) -> int:
        return len(self.sources.rows) // self.batch_size

    def prepare(self, resolutions: Sequence[int]) -> None:
        self.resolutions = tuple(resolutions)
        self.sources.prepare(resolutions)

    def batches(self, epoch: int, random: Generator) -> Iterator[Batch]:
        """Go on in each stream where the epoch before left off."""
        for step in range(epoch * self.steps, (epoch + 1) * self.steps):
            resolution = draw(self.resolutions, random)
            taken = [
                stream.take(step * count, count, resolution, random)
                for stream, count in zip(self.streams, self.counts, strict=True)
            ]
            names = [stream.views.name for stream in self.streams]
            yield Batch(
                torch.cat([images for images, _ in taken]),
                torch.cat([targets for _, targets in taken]),
                tuple(zip(names, self.counts, strict=True)),
            )


def label_files(chosen: Distillation, pictures: Pictures) -> dict[str, LabelFile]:
    """The label files of a mixture by set; none where the folders' names are the targets."""
    if chosen.teacher is None or chosen.folder is None:
        return {}
    count = len(pictures.rows(dev=False))
    return {
        views.name: LabelFile(
            chosen.folder,
            LabelledSet(
                views=views,
                seed=chosen.seed,
                teacher=chosen.teacher,
                data_hash=pictures.index.data_hash,
                pictures=count,
                classes=len(pictures.index.classes),
            ),
        )
        for views in chosen.views
    }


def replicas_needed(config: TrainConfig, pictures: int) -> dict[str, int]:
    """How many replicas of each set a run walks through."""
    assert config.distillation is not None
    steps = config.epochs * (pictures // config.batch_size)
    counts = config.distillation.counts(config.batch_size)
    return {
        views.name: ceil(steps * count / pictures)
        for views, count in zip(config.distillation.views, counts, strict=True)
    }


def check_classes(pictures: Pictures, known: Sequence[str]) -> None:
    """Raises TrainError where a teacher tells other classes apart than the folders name."""
    if pictures.index.classes != tuple(known):
        raise TrainError(
            f"the teacher knows {len(known)} classes from {known[0]} to {known[-1]}, the folders "
            f"are {len(pictures.index.classes)} others: train a teacher on them first"
        )


def label_mixture(
    config: TrainConfig, pictures: Pictures, teacher: Teacher, advance: Advance
) -> None:
    """Let the teacher answer whatever a run needs and nobody has asked yet."""
    assert config.distillation is not None
    sources = Sources(pictures)
    sources.prepare([teacher.name.resolution])
    source = sources.at(teacher.name.resolution)
    needed = replicas_needed(config, len(source))
    for name, file in label_files(config.distillation, pictures).items():
        label(teacher, file, source, needed[name], advance)
