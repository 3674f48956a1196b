"""RandAugment on whole batches: geometry folded into the crop's resampling, then colours.

The fifteen operations of the published policy without Cutout. Geometry comes first so that
pictures are resampled once; posterize grows with the magnitude instead of shrinking.
"""

from collections.abc import Callable
from math import radians

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, pad

from mnv4serve.train.augment import GREY

FULL = 10.0
"""The magnitude at which an operation is at its strongest."""
ROTATION = radians(30)
SHEAR = 0.3
TRANSLATION = 0.2
"""In units where a picture is two wide: a tenth of its side."""
LEVELS = 256
GEOMETRIES = 5

Floats = NDArray[np.float32]


def draw_operations(layers: int, count: int, random: Generator) -> NDArray[np.int64]:
    """For each layer and picture one operation, its sign: negative ones turn the other way."""
    kinds = random.integers(0, GEOMETRIES + len(COLOURS), (layers, count))
    turned = random.integers(0, 2, (layers, count), bool)
    return np.where(turned, -1 - kinds, kinds)


def bend(theta: Floats, operations: NDArray[np.int64], magnitude: float) -> Floats:
    """Crops with the geometric operations among these worked in."""
    for drawn in operations:
        theta = theta @ _geometry(drawn, magnitude / FULL)
    return theta


def recolour(images: Tensor, operations: NDArray[np.int64], magnitude: float) -> Tensor:
    """Pictures in 0..1 after the other operations, layer by layer; changes `images` in place."""
    for drawn in operations:
        kinds = np.where(drawn < 0, -1 - drawn, drawn) - GEOMETRIES
        for kind in np.unique(kinds[kinds >= 0]):
            rows = torch.from_numpy(np.flatnonzero(kinds == kind))
            images[rows] = COLOURS[kind](images[rows], magnitude / FULL).clamp_(0, 1)
    return images


def _geometry(drawn: NDArray[np.int64], strength: float) -> Floats:
    sign = np.where(drawn < 0, -1, 1)
    kinds = np.where(drawn < 0, -1 - drawn, drawn)
    on = [(kinds == kind) * sign * strength for kind in range(GEOMETRIES)]
    angle = on[0] * ROTATION
    matrix = np.tile(np.eye(3, dtype=np.float32), (len(drawn), 1, 1))
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
    matrix[:, 0, 1] = on[1] * SHEAR - np.sin(angle)
    matrix[:, 1, 0] = on[2] * SHEAR + np.sin(angle)
    matrix[:, 0, 2] = on[3] * TRANSLATION
    matrix[:, 1, 2] = on[4] * TRANSLATION
    return matrix


def _blend(base: Tensor, images: Tensor, strength: float) -> Tensor:
    return base.lerp(images, 0.1 + 1.8 * strength)


def _grey(images: Tensor) -> Tensor:
    return (images * images.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _autocontrast(images: Tensor, _: float) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (images - low) / spread.clamp(min=1 / LEVELS), images)


def _equalize(images: Tensor, _: float) -> Tensor:
    levels = images.mul(LEVELS - 1).round().long().flatten(2)
    counts = torch.zeros(*levels.shape[:2], LEVELS).scatter_add_(
        2, levels, torch.ones(levels.shape)
    )
    below = counts.cumsum(2) - counts / 2
    return below.gather(2, levels).div(levels.shape[2]).view(images.shape)


def _invert(images: Tensor, _: float) -> Tensor:
    return 1 - images


def _posterize(images: Tensor, strength: float) -> Tensor:
    steps = 2 ** (8 - int(4 * strength))
    return images.mul(steps).floor().div(steps)


def _solarize(images: Tensor, strength: float) -> Tensor:
    return torch.where(images < strength, images, 1 - images)


def _solarize_add(images: Tensor, strength: float) -> Tensor:
    return torch.where(images < 1 / 2, images + 110 / LEVELS * strength, images)


def _colour(images: Tensor, strength: float) -> Tensor:
    return _blend(_grey(images).expand_as(images), images, strength)


def _contrast(images: Tensor, strength: float) -> Tensor:
    return _blend(_grey(images).mean((2, 3), keepdim=True).expand_as(images), images, strength)


def _brightness(images: Tensor, strength: float) -> Tensor:
    return _blend(torch.zeros_like(images), images, strength)


def _sharpness(images: Tensor, strength: float) -> Tensor:
    kernel = images.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).div(13).expand(3, 1, 3, 3)
    smooth = conv2d(pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    return _blend(smooth, images, strength)


COLOURS: tuple[Callable[[Tensor, float], Tensor], ...] = (
    _autocontrast,
    _equalize,
    _invert,
    _posterize,
    _solarize,
    _solarize_add,
    _colour,
    _contrast,
    _brightness,
    _sharpness,
)
