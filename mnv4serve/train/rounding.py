"""Fine-tuning for int8: a network that learns while its weights and tensors are rounded as served.

Batch-norm statistics stay as they are and the ranges are given, so the result belongs to one
resolution. The network's own float answers are what it learns to keep.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from typing_extensions import override

from mnv4serve.arch.blocks import (
    AttentionBlock,
    ConvBlock,
    ConvNorm,
    FusedBottleneck,
    LayerScale,
    MultiQueryAttention,
    Projection,
    UniversalBottleneck,
)
from mnv4serve.arch.model import MobileNetV4
from mnv4serve.errors import TrainError
from mnv4serve.train.feed import Feed

WEIGHT_LEVELS = 127
LEVELS = 255
FINEST = 1e-6
FOLDED = ".scaled"
"""Ends the names of tensors that exist between two operators only once batch norm is folded."""

Range = tuple[float, float]
Advance = Callable[[int, int], None]
Spots = dict[str, tuple[nn.Module, bool]]


class RoundedWeight(nn.Module):
    """Weights on an int8 grid with one scale per output channel; gradients pass straight through.

    Folding batch norm multiplies whole channels, so it does not move weights on such a grid.
    """

    @override
    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().abs().flatten(1).amax(1).clamp(min=FINEST) / WEIGHT_LEVELS
        zero = torch.zeros(len(scale), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weight, scale, zero, 0, -WEIGHT_LEVELS, WEIGHT_LEVELS
        )


def fine_tune_rounded(
    model: MobileNetV4,
    ranges: Mapping[str, Range],
    feed: Feed,
    *,
    epochs: int = 2,
    learning_rate: float = 1e-4,
    advance: Advance | None = None,
) -> None:
    """Change the parameters so that rounding costs less; `feed` is prepared for one resolution."""
    reference = deepcopy(model).eval()
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    total = epochs * feed.steps
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
    model.eval()
    with rounded(model, ranges):
        for step, images in enumerate(_pictures(feed, epochs)):
            with torch.no_grad():
                answers = reference(images).softmax(1)
            loss = cross_entropy(model(images), answers)
            if not torch.isfinite(loss):
                raise TrainError("the loss is no number while rounding: lower the learning rate")
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            if advance:
                advance(step + 1, total)


@contextmanager
def rounded(model: MobileNetV4, ranges: Mapping[str, Range]) -> Iterator[None]:
    """While this lasts the network computes what its int8 form computes."""
    places = spots(model)
    if unknown := [n for n in places if n not in ranges]:
        raise TrainError(f"the ranges are of another network: they lack {unknown[0]}")
    handles = []
    for name, (module, before) in places.items():
        rounding = _rounding(*ranges[name])
        if before:
            handles.append(module.register_forward_pre_hook(lambda _, x, f=rounding: f(x[0])))
        else:
            handles.append(module.register_forward_hook(lambda _, __, y, f=rounding: f(y)))
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        register_parametrization(layer, "weight", RoundedWeight())
    try:
        yield
    finally:
        for layer in layers:
            remove_parametrizations(layer, "weight", leave_parametrized=False)
        for handle in handles:
            handle.remove()


def spots(model: MobileNetV4) -> Spots:
    """Where each tensor with a grid of its own is computed; True where it is a module's input."""
    found: Spots = {"act": (model.bn1, False)}
    for path, module in model.named_modules():
        for name, place, before in _spots_of(module):
            found[f"{path}.{name}"] = (place, before)
    found.popitem()  # the last block's output is pooled as it is
    found["adaptive_avg_pool2d"] = (model.conv_head, True)
    found["flatten"] = (model.classifier, True)
    return found


def _spots_of(module: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
    match module:
        case ConvBlock():
            yield "act", module, False
        case FusedBottleneck():
            yield "act", module.act, False
            yield "conv_pwl", module, False
        case UniversalBottleneck():
            yield from _bottleneck_spots(module)
        case AttentionBlock():
            yield "norm", module.norm, False
            yield "attn.output.proj", module.layer_scale, False
            yield "add", module, False
        case MultiQueryAttention():
            yield "unflatten#2", module.output.proj, True
        case Projection() if module.stride > 1:
            yield "down_conv", module.norm, False


def _bottleneck_spots(block: UniversalBottleneck) -> Iterator[tuple[str, nn.Module, bool]]:
    for name in ("dw_start", "pw_exp", "dw_mid"):
        part = getattr(block, name)
        if isinstance(part, ConvNorm):
            yield f"{name}.{'conv' if isinstance(part.act, nn.Identity) else 'act'}", part, False
    scaled = isinstance(block.layer_scale, LayerScale)
    yield "pw_proj.conv", block.layer_scale if scaled else block.pw_proj, False
    if block.residual:
        yield "add", block, False


def _rounding(low: float, high: float) -> Callable[[Tensor], Tensor]:
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max(high - low, FINEST) / LEVELS))
    zero = round(-low / scale)
    return lambda values: torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, LEVELS)


def _pictures(feed: Feed, epochs: int) -> Iterator[Tensor]:
    for epoch in range(epochs):
        for batch in feed.batches(epoch, np.random.default_rng(epoch)):
            yield batch.images
