"""Accuracy on plain pictures, with batch-norm statistics re-estimated at each resolution."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnv4serve.arch.model import BATCH_NORM_STATISTICS
from mnv4serve.train.data import squash

BATCH = 64
CALIBRATION_PICTURES = 2000

VARIANCE_FLOOR = 0.01
"""Of batch-norm statistics; on the dev split it gains half a point to a point over no floor."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """uint8 NCHW pictures with their class numbers."""

    pictures: Tensor
    labels: Tensor


def normalised(pictures: Tensor) -> Tensor:
    """uint8 to the range -1..1 that all our networks take, in the layout they run fastest."""
    scaled = pictures.float().div_(127.5).sub_(1)
    return scaled.contiguous(memory_format=torch.channels_last)


def reestimate_batch_norm(model: nn.Module, pictures: Tensor, resolution: int) -> dict[str, Tensor]:
    """Replace a model's batch-norm statistics by those of plain pictures at one resolution.

    The pictures have to come in random order: a batch of one class would look too uniform.
    Variances get a floor: a channel that is silent on these pictures would be amplified a
    hundredfold on the one picture that wakes it.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    training = model.training
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in _batches(pictures, resolution):
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        if norm.running_var is not None:
            norm.running_var.clamp_(min=VARIANCE_FLOOR)
    model.train(training)
    return batch_norm_statistics(model)


def batch_norm_statistics(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    return {k: v.clone() for k, v in state.items() if k.endswith(BATCH_NORM_STATISTICS)}


def accuracy(model: nn.Module, data: Labelled, resolution: int) -> float:
    """Share of pictures whose largest logit is their label's."""
    training = model.training
    model.eval()
    with torch.no_grad():
        answers = [model(batch).argmax(1) for batch in _batches(data.pictures, resolution)]
    model.train(training)
    return (torch.cat(answers) == data.labels).float().mean().item()


def _batches(pictures: Tensor, resolution: int) -> Iterator[Tensor]:
    for start in range(0, len(pictures), BATCH):
        yield normalised(squash(pictures[start : start + BATCH], resolution))
