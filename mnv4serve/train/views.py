"""Views that can be made again: a set's replica is a function of seed and number alone.

A teacher looks at a replica once, students look at it whenever they like, at any resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated
from zlib import crc32

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import one_hot

from mnv4serve.train.augment import Augmentation, resample, view_matrices
from mnv4serve.train.randaugment import bend, draw_operations, recolour

Rows = NDArray[np.int64]


class ViewSet(BaseModel):
    """One way of looking at the training pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    smallest_crop: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Smallest share of a picture's area that a crop keeps."""
    aspect: Annotated[float, Field(ge=1)] = 4 / 3
    layers: Annotated[int, Field(ge=0)] = 0
    """Of RandAugment."""
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    mixed: bool = False
    """Whether each view is blended with another picture's, in shares drawn from all of 0..1."""


VIEW_SETS: Mapping[str, ViewSet] = MappingProxyType(
    {"D1": ViewSet(name="D1", layers=2), "D2": ViewSet(name="D2", mixed=True)}
)


class TeacherName(BaseModel):
    """Which weights answered, and at which resolution they looked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    """Of the weights and the batch-norm statistics."""
    resolution: int


@dataclass(frozen=True, slots=True)
class Replica:
    """What was drawn for one view of every training picture."""

    views: ViewSet
    theta: NDArray[np.float32]
    operations: NDArray[np.int64]
    partners: Rows | None
    shares: NDArray[np.float32]
    """Of the partners in the blend."""


def draw_replica(views: ViewSet, count: int, *, seed: int, number: int) -> Replica:
    """The `number`-th view of each of `count` pictures."""
    random = _generator(views, seed, number)
    crops = Augmentation(
        smallest_crop=views.smallest_crop, aspect=views.aspect, flip=0, rotation_degrees=0
    )
    theta = view_matrices(count, crops, random)
    operations = draw_operations(views.layers, count, random)
    return Replica(
        views=views,
        theta=bend(theta, operations, views.magnitude),
        operations=operations,
        partners=random.permutation(count) if views.mixed else None,
        shares=random.random(count, np.float32) if views.mixed else np.zeros(count, np.float32),
    )


def draw_order(views: ViewSet, count: int, *, seed: int, number: int) -> Rows:
    """The order in which students meet the `number`-th views, another one in each set."""
    return _generator(views, seed, number, 1).permutation(count)


def render(
    replica: Replica, pictures: Tensor, rows: Rows, resolution: int, mirrored: NDArray[np.bool_]
) -> Tensor:
    """Normalised views of some rows, left and right exchanged where `mirrored` says so."""
    images = _plain(replica, pictures, rows, resolution, mirrored)
    if replica.partners is not None:
        others = _plain(replica, pictures, replica.partners[rows], resolution, mirrored)
        images = images.lerp(others, torch.from_numpy(replica.shares[rows]).view(-1, 1, 1, 1))
    return images.mul_(2).sub_(1).contiguous(memory_format=torch.channels_last)


def true_targets(replica: Replica, labels: Tensor, classes: int, rows: Rows) -> Tensor:
    """What the folders say about some rows, in the shares of their blends."""
    targets = one_hot(labels[torch.from_numpy(rows)], classes).float()
    if replica.partners is None:
        return targets
    others = one_hot(labels[torch.from_numpy(replica.partners[rows])], classes).float()
    return targets.lerp(others, torch.from_numpy(replica.shares[rows]).view(-1, 1))


def _generator(views: ViewSet, *numbers: int) -> Generator:
    return np.random.default_rng([crc32(views.name.encode()), *numbers])


def _plain(
    replica: Replica, pictures: Tensor, rows: Rows, resolution: int, mirrored: NDArray[np.bool_]
) -> Tensor:
    theta = replica.theta[rows]
    theta[mirrored, :, 0] *= -1
    images = resample(pictures[torch.from_numpy(rows)], theta, resolution)
    return recolour(images, replica.operations[:, rows], replica.views.magnitude)
