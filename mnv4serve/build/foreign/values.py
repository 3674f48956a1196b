"""What is asked for and found out about somebody else's network, as it goes between processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mnv4serve.catalog import Network, Preprocessing, Triple

WHITE = 255.0
USUAL_CROP = 0.875
ZERO: Triple = (0.0, 0.0, 0.0)
ONE: Triple = (1.0, 1.0, 1.0)
HALF: Triple = (0.5, 0.5, 0.5)
LEVEL: Triple = (1 / WHITE, 1 / WHITE, 1 / WHITE)
"""As a deviation it leaves pixels from 0 to 255 as they are."""
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
CAFFE_MEAN: Triple = (123.68 / WHITE, 116.779 / WHITE, 103.939 / WHITE)
CIFAR_MEAN: Triple = (0.4914, 0.4822, 0.4465)
CIFAR_STD: Triple = (0.247, 0.2435, 0.2616)

Outputs = Mapping[str, NDArray[Any]]
"""Of one run, by name."""
Colours = Literal["RGB", "BGR", "grey"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wishes(_Frozen):
    """What the user said, each in the place of a guess; None where nothing was said."""

    layout: Literal["NCHW", "NHWC"] | None = None
    colours: Colours | None = None
    mean: Triple | None = None
    std: Triple | None = None
    label_offset: int | None = None
    gives: Literal["logits", "probabilities"] | None = None
    output: str | None = None
    resolution: int | None = None
    resize: Literal["squash", "shortest"] | None = None
    crop: float | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None


class Declared(_Frozen):
    """What whoever published a network says about preparing its pictures."""

    source: str
    preprocessing: Preprocessing


class Way(_Frozen):
    """One way to prepare pictures."""

    name: str
    colours: Colours
    preprocessing: Preprocessing

    def same_values(self, other: "Way") -> bool:
        """Whether a network gets the same numbers for the same pixels."""
        mine, others = self.preprocessing, other.preprocessing
        return (self.colours, mine.mean, mine.std) == (other.colours, others.mean, others.std)


class Proposal(_Frozen):
    """How a network is to be served, and why so."""

    network: Network
    resolution: int
    way: Way
    rivals: tuple[Way, ...]
    """Other ways that were not ruled out."""
    reasons: tuple[str, ...]
    producer: str


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output as the file announces it."""

    name: str
    number: str
    """`float32`, `uint8`, ... or the runtime's name of another format."""
    shape: tuple[int | None, ...]
    """None where a dimension is open."""
    scale: float = 0.0
    zero_point: int = 0
    """Of whole numbers; a scale of 0 says that they stand for themselves."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operator that a picture meets first, with the constant it is combined with."""

    kind: str
    constant: NDArray[Any] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says about itself."""

    kind: Literal["onnx", "tflite"]
    producer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    quantised: bool
    first: tuple[Step, ...]
    """The element-wise operators between the input and the first real one."""
    last: dict[str, str]
    """Which operator makes each output."""
    declared: Declared | None = None
    """What the publisher says about preparing pictures."""
