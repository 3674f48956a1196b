"""Weights to start from: all of a checkpoint, the strongest channels of a wider one, or its blocks.

A narrower network keeps the channels with the largest batch-norm factors. A network whose stages
hold other blocks takes over those that both have; what is left starts fresh and nearly silent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mnv4serve.arch.model import MobileNetV4
from mnv4serve.arch.specs import (
    ARCHITECTURES,
    Architecture,
    Attention,
    Block,
    Bottleneck,
    Conv,
    Fused,
    Stage,
)
from mnv4serve.errors import TrainError
from mnv4serve.train.config import Start

FRESH_LAYER_SCALE = 0.1
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Place:
    """A block of the target, the block of the source that it takes over, and its channels."""

    key: str
    spec: Block
    source_key: str | None
    residual: bool


def read_start(start: Start) -> Weights:
    """The weights of a file, refused where it is not the one that the run began with."""
    try:
        data = Path(start.path or start.name).read_bytes()
        weights = load(data)
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{start.path} is not a readable weights file: {error}") from error
    if sha256(data).hexdigest() != start.sha256:
        raise TrainError(
            f"{start.path} is not the file that this run started from: restore it, or start afresh "
            "with --no-resume"
        )
    return weights


def start_from(model: MobileNetV4, weights: Weights, architecture: str) -> None:
    """Fill a fresh model as far as another checkpoint goes; a classifier of other classes stays."""
    source = ARCHITECTURES[architecture]
    target = model.architecture
    places = list(_places(source, target))
    if missing := [p.key for p in places if p.source_key is None and not p.residual]:
        raise TrainError(
            f"{target.name} cannot start from {architecture}, which has nothing for {missing[0]}"
        )
    transfer = Transfer(weights, model.state_dict())
    try:
        transfer.all(places)
    except (KeyError, IndexError, RuntimeError) as error:
        raise TrainError(
            f"{target.name} cannot start from these weights: they are not of {architecture}, "
            "or have fewer channels"
        ) from error
    model.load_state_dict(transfer.state)


class Transfer:
    """Copies the chosen channels of the source into the state of the target."""

    def __init__(self, source: Weights, state: dict[str, Tensor]) -> None:
        self.source = source
        self.state = state

    def all(self, places: list[Place]) -> None:
        """Stem, blocks and head, following the channels that survive."""
        trunk = self._every("bn1")
        self._conv("conv_stem", "conv_stem", trunk, None)
        self._norm("bn1", "bn1", trunk)
        for number, place in enumerate(places):
            channels = trunk if place.residual else self._trunk(places, number)
            self._block(place, trunk, channels)
            trunk = channels
        head = self._every("norm_head")
        self._conv("conv_head", "conv_head", head, trunk)
        self._norm("norm_head", "norm_head", head)
        for part in ("classifier.weight", "classifier.bias"):
            if self.source[part].shape == self.state[part].shape:
                self._put(part, self.source[part])

    def _trunk(self, places: list[Place], first: int) -> Tensor:
        """The channels that this block and the residual ones behind it write to most."""
        strength, number = self._written(places[first]), first + 1
        while number < len(places) and places[number].residual:
            if places[number].source_key is not None:
                strength = strength + self._written(places[number])
            number += 1
        place = places[first]
        return strongest(strength, len(self.state[f"{place.key}.{_last_norm(place.spec)}.weight"]))

    def _written(self, place: Place) -> Tensor:
        if isinstance(place.spec, Attention):
            return torch.zeros(())
        return self._strength(f"{place.source_key}.{_last_norm(place.spec)}")

    def _block(self, place: Place, inputs: Tensor, outputs: Tensor) -> None:
        target, source = place.key, place.source_key
        if f"{target}.layer_scale.gamma" in self.state:
            fresh = source is None
            self.state[f"{target}.layer_scale.gamma"].fill_(FRESH_LAYER_SCALE if fresh else 1.0)
        if source is None:
            return
        match place.spec:
            case Conv():
                self._conv(f"{target}.conv", f"{source}.conv", outputs, inputs)
                self._norm(f"{target}.bn1", f"{source}.bn1", outputs)
            case Fused():
                middle = self._middle(f"{target}.bn1", f"{source}.bn1")
                self._conv(f"{target}.conv_exp", f"{source}.conv_exp", middle, inputs)
                self._norm(f"{target}.bn1", f"{source}.bn1", middle)
                self._conv(f"{target}.conv_pwl", f"{source}.conv_pwl", outputs, middle)
                self._norm(f"{target}.bn2", f"{source}.bn2", outputs)
            case Bottleneck():
                self._bottleneck(place.spec, target, source, (inputs, outputs))
            case Attention():
                self._attention(target, source)

    def _bottleneck(
        self, spec: Bottleneck, target: str, source: str, trunk: tuple[Tensor, Tensor]
    ) -> None:
        inputs, outputs = trunk
        middle = self._middle(f"{target}.pw_exp.bn", f"{source}.pw_exp.bn")
        parts: list[tuple[str, Tensor, Tensor | None]] = [
            ("pw_exp", middle, inputs),
            ("pw_proj", outputs, middle),
        ]
        parts += [("dw_start", inputs, None)] if spec.start_kernel else []
        parts += [("dw_mid", middle, None)] if spec.mid_kernel else []
        for name, rows, columns in parts:
            self._conv(f"{target}.{name}.conv", f"{source}.{name}.conv", rows, columns)
            self._norm(f"{target}.{name}.bn", f"{source}.{name}.bn", rows)
        if f"{source}.layer_scale.gamma" in self.source:
            self._put(
                f"{target}.layer_scale.gamma", self.source[f"{source}.layer_scale.gamma"][outputs]
            )

    def _attention(self, target: str, source: str) -> None:
        for key in [key for key in self.state if key.startswith(f"{target}.")]:
            if not key.endswith("num_batches_tracked"):
                self._put(key, self.source[source + key.removeprefix(target)])

    def _conv(self, target: str, source: str, outputs: Tensor, inputs: Tensor | None) -> None:
        kernel = self.source[f"{source}.weight"][outputs]
        self._put(f"{target}.weight", kernel if inputs is None else kernel[:, inputs])

    def _norm(self, target: str, source: str, channels: Tensor) -> None:
        for part in NORM_PARTS:
            self._put(f"{target}.{part}", self.source[f"{source}.{part}"][channels])

    def _middle(self, target: str, source: str) -> Tensor:
        return strongest(self._strength(source), len(self.state[f"{target}.weight"]))

    def _strength(self, norm: str) -> Tensor:
        return self.source[f"{norm}.weight"].float().abs()

    def _every(self, norm: str) -> Tensor:
        return torch.arange(len(self.state[f"{norm}.weight"]))

    def _put(self, key: str, value: Tensor) -> None:
        if value.shape != self.state[key].shape:
            raise IndexError(key)
        self.state[key].copy_(value)


def strongest(strength: Tensor, count: int) -> Tensor:
    """The indices of the largest values, in ascending order."""
    return strength.topk(count).indices.sort().values


def _places(source: Architecture, target: Architecture) -> Iterator[Place]:
    channels = target.stem_channels
    for number, (blocks, offered) in enumerate(zip(target.stages, source.stages, strict=True)):
        taken = _matches(blocks, offered)
        for index, spec in enumerate(blocks):
            match = taken[index]
            yield Place(
                key=f"blocks.{number}.{index}",
                spec=spec,
                source_key=None if match is None else f"blocks.{number}.{match}",
                residual=_residual(spec, channels),
            )
            channels = spec.out_channels


def _matches(blocks: Stage, offered: Stage) -> list[int | None]:
    """For each block the first offered one of its kind, or failing that a wider one."""
    free = dict(enumerate(offered))
    found: list[int | None] = [None] * len(blocks)
    for fits in (_same, _wider):
        for index, spec in enumerate(blocks):
            matches = (i for i, candidate in free.items() if fits(spec, candidate))
            if found[index] is None and (match := next(matches, None)) is not None:
                found[index] = match
                del free[match]
    return found


def _same(spec: Block, candidate: Block) -> bool:
    return replace(candidate, out_channels=spec.out_channels) == spec


def _wider(spec: Block, candidate: Block) -> bool:
    if not isinstance(spec, Bottleneck) or not isinstance(candidate, Bottleneck):
        return False
    return candidate.expand > spec.expand and _same(spec, replace(candidate, expand=spec.expand))


def _residual(spec: Block, channels: int) -> bool:
    match spec:
        case Attention():
            return True
        case Bottleneck():
            return spec.stride == 1 and spec.out_channels == channels
        case Conv() | Fused():
            return False


def _last_norm(spec: Block) -> str:
    match spec:
        case Conv():
            return "bn1"
        case Fused():
            return "bn2"
        case Bottleneck():
            return "pw_proj.bn"
        case Attention():
            return "norm"
