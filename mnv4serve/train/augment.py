"""Random views of a whole batch at once: geometry in one resampling, then colour, then mixing."""

from typing import Annotated

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, one_hot

GREY = (0.299, 0.587, 0.114)
MIXUP_BETA = 0.2

Share = Annotated[float, Field(ge=0, le=1)]


class Augmentation(BaseModel):
    """How far training pictures may stray from the originals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest_crop: Annotated[float, Field(gt=0, le=1)] = 0.35
    """Smallest share of a picture's area that a crop keeps."""
    aspect: Annotated[float, Field(ge=1)] = 4 / 3
    flip: Share = 0.5
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 8.0
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.3
    mixup: Share = 0.0
    """Share of the batches that are blended, as `cutmix` is of those that get a patch."""
    cutmix: Share = 0.0


def augment(pictures: Tensor, resolution: int, settings: Augmentation, random: Generator) -> Tensor:
    """Normalised views, `resolution` square, of uint8 pictures."""
    theta = view_matrices(len(pictures), settings, random)
    views = resample(pictures, theta, resolution)
    return jitter(views, settings.colour, random).mul_(2).sub_(1)


def resample(pictures: Tensor, theta: NDArray[np.float32], resolution: int) -> Tensor:
    """Views in 0..1 through one affine map a picture; beyond the border it is mirrored."""
    shape = [len(pictures), 3, resolution, resolution]
    grid = affine_grid(torch.from_numpy(theta), shape, align_corners=False)
    scaled = pictures.float().div_(255)
    return grid_sample(scaled, grid, padding_mode="reflection", align_corners=False)


def view_matrices(count: int, settings: Augmentation, random: Generator) -> NDArray[np.float32]:
    """Affine maps from output to input coordinates: crop, aspect, flip and a slight turn."""
    area = random.uniform(settings.smallest_crop, 1, count)
    log_aspect = random.uniform(-np.log(settings.aspect), np.log(settings.aspect), count)
    width = np.minimum(np.sqrt(area * np.exp(log_aspect)), 1)
    height = np.minimum(np.sqrt(area * np.exp(-log_aspect)), 1)
    mirror = np.where(random.random(count) < settings.flip, -1, 1)
    angle = np.deg2rad(random.uniform(-1, 1, count) * settings.rotation_degrees)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = width * mirror * np.cos(angle)
    theta[:, 0, 1] = -height * np.sin(angle)
    theta[:, 1, 0] = width * mirror * np.sin(angle)
    theta[:, 1, 1] = height * np.cos(angle)
    theta[:, 0, 2] = random.uniform(-1, 1, count) * (1 - width)
    theta[:, 1, 2] = random.uniform(-1, 1, count) * (1 - height)
    return theta


def jitter(images: Tensor, strength: float, random: Generator) -> Tensor:
    """Brightness, contrast and saturation, drawn for each picture; changes `images` in place."""
    if not strength:
        return images
    drawn = random.uniform(1 - strength, 1 + strength, (3, len(images), 1, 1, 1))
    brightness, contrast, saturation = torch.from_numpy(drawn.astype(np.float32))
    images.mul_(brightness)
    mean = images.mean((1, 2, 3), keepdim=True)
    grey = (images * images.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    images.mul_(saturation * contrast).add_(grey.mul_((1 - saturation) * contrast))
    return images.add_(mean.mul_(1 - contrast)).clamp_(0, 1)


def mix(
    images: Tensor, labels: Tensor, classes: int, settings: Augmentation, random: Generator
) -> tuple[Tensor, Tensor]:
    """A batch blended with itself (mixup or cutmix, or neither) and its soft targets."""
    targets = one_hot(labels, classes).float()
    draw = random.random()
    if draw >= settings.mixup + settings.cutmix:
        return images, targets
    other = torch.from_numpy(random.permutation(len(images)))
    if draw < settings.mixup:
        share = float(random.beta(MIXUP_BETA, MIXUP_BETA))
        images = images.lerp(images[other], share)
    else:
        images, share = _paste(images, images[other], random)
    return images, targets.lerp(targets[other], share)


def _paste(images: Tensor, others: Tensor, random: Generator) -> tuple[Tensor, float]:
    height, width = images.shape[-2:]
    side = float(np.sqrt(random.random()))
    rows, columns = int(height * side), int(width * side)
    top = int(random.integers(height - rows + 1))
    left = int(random.integers(width - columns + 1))
    inside = (..., slice(top, top + rows), slice(left, left + columns))
    images = images.clone()
    images[inside] = others[inside]
    return images, rows * columns / (height * width)
