"""A whole network from its architecture, its weights from a checkpoint, and what it costs."""

from collections.abc import Iterator, Mapping
from math import sqrt
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from mnv4serve.arch.blocks import MultiQueryAttention, Style, activation, build_block, convolution
from mnv4serve.arch.specs import (
    ARCHITECTURES,
    HEAD_CHANNELS,
    RESOLUTION_STEP,
    Architecture,
)
from mnv4serve.errors import WeightsMismatch

CLASSIFIER_STD = 0.01
BATCH_NORM_STATISTICS = ("running_mean", "running_var")
DIFFERENCES_LISTED = 5

Weights = Mapping[str, Tensor] | Path


class MobileNetV4(nn.Module):
    """Normalised NCHW pictures to logits, at any resolution divisible by 32."""

    def __init__(self, architecture: Architecture, num_classes: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.num_classes = num_classes
        self.conv_stem = convolution(3, architecture.stem_channels, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(architecture.stem_channels)
        self.act = activation(architecture.activation)
        self.blocks = _trunk(architecture)
        trunk_channels = architecture.stages[-1][-1].out_channels
        self.conv_head = convolution(trunk_channels, HEAD_CHANNELS)
        self.norm_head = nn.BatchNorm2d(HEAD_CHANNELS)
        self.classifier = nn.Linear(HEAD_CHANNELS, num_classes)
        initialise(self)

    @override
    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            check_resolution(images.shape[-2], images.shape[-1])
        features = self.blocks(self.act(self.bn1(self.conv_stem(images))))
        pooled = functional.adaptive_avg_pool2d(features, 1)
        hidden = self.act(self.norm_head(self.conv_head(pooled)))
        logits: Tensor = self.classifier(hidden.flatten(1))
        return logits


def create_model(architecture: str, num_classes: int = 1000) -> MobileNetV4:
    """A freshly initialised network, in training mode."""
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"unknown architecture {architecture!r}; there are {', '.join(ARCHITECTURES)}"
        )
    if num_classes < 1:
        raise ValueError(f"a classifier needs at least one class, not {num_classes}")
    return MobileNetV4(ARCHITECTURES[architecture], num_classes)


def check_resolution(height: int, width: int) -> None:
    """Refuse a picture size that the five halvings would not divide evenly."""
    for side in (height, width):
        if side < RESOLUTION_STEP or side % RESOLUTION_STEP:
            raise ValueError(
                f"resolution {height}x{width} is not divisible by {RESOLUTION_STEP} on both sides"
            )


def initialise(model: nn.Module) -> None:
    """Random weights to train from scratch; a small classifier suits few classes as well."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=CLASSIFIER_STD)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d) and ".attn." in name:
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=sqrt(2 / fan_out))


def load_weights(model: nn.Module, weights: Weights, batch_norm: Weights | None = None) -> None:
    """Fill a model with a checkpoint, and with another resolution's batch-norm statistics."""
    wanted = model.state_dict()
    state = {k: v for k, v in _tensors(weights).items() if not k.endswith("num_batches_tracked")}
    needed = {k: v for k, v in wanted.items() if not k.endswith("num_batches_tracked")}
    _refuse_differences(state, needed)
    if batch_norm is not None:
        statistics = _tensors(batch_norm)
        _refuse_differences(
            statistics, {k: v for k, v in needed.items() if k.endswith(BATCH_NORM_STATISTICS)}
        )
        state |= statistics
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in state.items()}, strict=False)


def parameter_count(model: nn.Module) -> int:
    """Learnable numbers, batch norm and classifier included."""
    return sum(p.numel() for p in model.parameters())


def macs(architecture: str, resolution: int, num_classes: int = 1000) -> int:
    """Multiply-accumulates for one picture: convolutions, linear layers and attention products."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(_layer_macs(module, inputs[0], output))

    with torch.device("meta"), torch.no_grad():
        model = create_model(architecture, num_classes).eval()
        for module in model.modules():
            module.register_forward_hook(count)
        model(torch.empty(1, 3, resolution, resolution))
    return sum(counts)


def _trunk(architecture: Architecture) -> nn.Sequential:
    depth = sum(len(stage) for stage in architecture.stages)
    channels, index, stages = architecture.stem_channels, 0, []
    for stage in architecture.stages:
        blocks = []
        for spec in stage:
            rate = architecture.drop_path * index / depth
            style = Style(architecture.activation, architecture.layer_scale, rate)
            blocks.append(build_block(channels, spec, style))
            channels, index = spec.out_channels, index + 1
        stages.append(nn.Sequential(*blocks))
    return nn.Sequential(*stages)


def _layer_macs(module: nn.Module, source: Tensor, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d | nn.Linear):
        return output[0].numel() * module.weight[0].numel()
    if isinstance(module, MultiQueryAttention):
        queries = source.shape[-2] * source.shape[-1]
        keys = queries // module.key.stride**2
        return 2 * queries * keys * module.query.proj.out_channels
    return 0


def _tensors(weights: Weights) -> dict[str, Tensor]:
    if not isinstance(weights, Path):
        return dict(weights)
    try:
        return load_file(weights)
    except (OSError, SafetensorError) as error:
        raise WeightsMismatch(f"{weights} is not a readable weights file: {error}") from error


def _refuse_differences(given: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> None:
    differences = list(_differences(given, needed))
    if not differences:
        return
    listed = "; ".join(differences[:DIFFERENCES_LISTED])
    more = len(differences) - DIFFERENCES_LISTED
    tail = f"; and {more} more" if more > 0 else ""
    raise WeightsMismatch(f"the weights do not fit this architecture: {listed}{tail}")


def _differences(given: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> Iterator[str]:
    for key, wanted in needed.items():
        if key not in given:
            yield f"{key} is missing"
        elif given[key].shape != wanted.shape:
            yield f"{key} is {_shape(given[key])}, not {_shape(wanted)}"
    yield from (f"{key} is unknown" for key in given if key not in needed)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
