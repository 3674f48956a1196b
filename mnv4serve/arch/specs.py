"""The seven MobileNetV4 architectures as data; nothing here knows PyTorch.

A network is a stem, five stages of blocks and a head. Channel counts are those of width 1.0;
`Architecture.scaled` applies the width multiplier.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

HEAD_CHANNELS = 1280
RESOLUTION_STEP = 32


class Activation(StrEnum):
    """The non-linearity that a whole network uses."""

    RELU = "relu"
    GELU = "gelu"


@dataclass(frozen=True, slots=True)
class Conv:
    """A full convolution with batch norm and activation."""

    out_channels: int
    kernel: int
    stride: int = 1


@dataclass(frozen=True, slots=True)
class Fused:
    """An inverted bottleneck whose expansion is a full k x k convolution."""

    out_channels: int
    kernel: int
    expand: float
    stride: int = 1


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The universal inverted bottleneck: each of its two depthwise convolutions may be absent."""

    out_channels: int
    start_kernel: int | None
    mid_kernel: int | None
    expand: float
    stride: int = 1


@dataclass(frozen=True, slots=True)
class Attention:
    """Mobile multi-query attention: many query heads share one key head and one value head."""

    out_channels: int
    heads: int
    head_dim: int
    kv_stride: int = 1


Block = Conv | Fused | Bottleneck | Attention
Stage = tuple[Block, ...]


def conv(channels: int, kernel: int, *, stride: int = 1) -> Conv:
    return Conv(channels, kernel, stride)


def fused(channels: int, kernel: int, *, expand: float, stride: int = 1) -> Fused:
    return Fused(channels, kernel, expand, stride)


def extra_dw(
    channels: int, start: int, mid: int, *, expand: float = 4, stride: int = 1
) -> Bottleneck:
    """Depthwise convolutions both before and after the expansion."""
    return Bottleneck(channels, start, mid, expand, stride)


def inverted(channels: int, mid: int, *, expand: float = 4) -> Bottleneck:
    """The classic inverted bottleneck: depthwise on the expanded channels only."""
    return Bottleneck(channels, None, mid, expand)


def convnext(channels: int, start: int, *, expand: float = 4) -> Bottleneck:
    """Depthwise on the narrow channels only, as in ConvNeXt."""
    return Bottleneck(channels, start, None, expand)


def ffn(channels: int, *, expand: float = 4) -> Bottleneck:
    """Two pointwise convolutions, no depthwise one."""
    return Bottleneck(channels, None, None, expand)


def attention(channels: int, *, heads: int, head_dim: int, kv_stride: int = 1) -> Attention:
    return Attention(channels, heads, head_dim, kv_stride)


def rounded(channels: float) -> int:
    """The multiple of 8 nearest to a channel count, never more than a tenth below it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network of the family, complete but for its class count."""

    name: str
    resolution: int
    stem_channels: int
    stages: tuple[Stage, ...]
    activation: Activation = Activation.RELU
    layer_scale: bool = False
    drop_path: float = 0.0

    def scaled(self, name: str, width: float) -> "Architecture":
        """The same network with other trunk widths; stem and head keep theirs."""
        stages = tuple(
            tuple(replace(block, out_channels=rounded(block.out_channels * width)) for block in s)
            for s in self.stages
        )
        return replace(self, name=name, stages=stages)


CONV_SMALL = Architecture(
    name="conv_small",
    resolution=224,
    stem_channels=32,
    stages=(
        (conv(32, 3, stride=2), conv(32, 1)),
        (conv(96, 3, stride=2), conv(64, 1)),
        (
            extra_dw(96, 5, 5, expand=3, stride=2),
            *(inverted(96, 3, expand=2),) * 4,
            convnext(96, 3),
        ),
        (
            extra_dw(128, 3, 3, expand=6, stride=2),
            extra_dw(128, 5, 5),
            inverted(128, 5),
            inverted(128, 5, expand=3),
            *(inverted(128, 3),) * 2,
        ),
        (conv(960, 1),),
    ),
)

CONV_MEDIUM = Architecture(
    name="conv_medium",
    resolution=256,
    stem_channels=32,
    stages=(
        (fused(48, 3, expand=4, stride=2),),
        (extra_dw(80, 3, 5, stride=2), extra_dw(80, 3, 3, expand=2)),
        (
            extra_dw(160, 3, 5, expand=6, stride=2),
            *(extra_dw(160, 3, 3),) * 2,
            extra_dw(160, 3, 5),
            extra_dw(160, 3, 3),
            convnext(160, 3),
            ffn(160, expand=2),
            convnext(160, 3),
        ),
        (
            extra_dw(256, 5, 5, expand=6, stride=2),
            extra_dw(256, 5, 5),
            *(extra_dw(256, 3, 5),) * 2,
            ffn(256),
            convnext(256, 3),
            extra_dw(256, 3, 5, expand=2),
            extra_dw(256, 5, 5),
            *(ffn(256),) * 2,
            convnext(256, 5, expand=2),
        ),
        (conv(960, 1),),
    ),
    drop_path=0.075,
)

CONV_LARGE = Architecture(
    name="conv_large",
    resolution=384,
    stem_channels=24,
    stages=(
        (fused(48, 3, expand=4, stride=2),),
        (extra_dw(96, 3, 5, stride=2), extra_dw(96, 3, 3)),
        (
            extra_dw(192, 3, 5, stride=2),
            *(extra_dw(192, 3, 3),) * 3,
            extra_dw(192, 3, 5),
            *(extra_dw(192, 5, 3),) * 5,
            convnext(192, 3),
        ),
        (
            extra_dw(512, 5, 5, stride=2),
            *(extra_dw(512, 5, 5),) * 3,
            convnext(512, 5),
            extra_dw(512, 5, 3),
            *(convnext(512, 5),) * 2,
            extra_dw(512, 5, 3),
            extra_dw(512, 5, 5),
            *(convnext(512, 5),) * 3,
        ),
        (conv(960, 1),),
    ),
    drop_path=0.35,
)

_MEDIUM_STRIDED = attention(160, heads=4, head_dim=64, kv_stride=2)
_MEDIUM_DENSE = attention(256, heads=4, head_dim=64)

HYBRID_MEDIUM = Architecture(
    name="hybrid_medium",
    resolution=256,
    stem_channels=32,
    stages=(
        (fused(48, 3, expand=4, stride=2),),
        (extra_dw(80, 3, 5, stride=2), extra_dw(80, 3, 3, expand=2)),
        (
            extra_dw(160, 3, 5, expand=6, stride=2),
            ffn(160, expand=2),
            extra_dw(160, 3, 3),
            extra_dw(160, 3, 5),
            _MEDIUM_STRIDED,
            extra_dw(160, 3, 3),
            _MEDIUM_STRIDED,
            convnext(160, 3),
            _MEDIUM_STRIDED,
            extra_dw(160, 3, 3),
            _MEDIUM_STRIDED,
            convnext(160, 3),
        ),
        (
            extra_dw(256, 5, 5, expand=6, stride=2),
            extra_dw(256, 5, 5),
            *(extra_dw(256, 3, 5),) * 2,
            ffn(256, expand=2),
            extra_dw(256, 3, 5, expand=2),
            ffn(256, expand=2),
            ffn(256),
            _MEDIUM_DENSE,
            convnext(256, 3),
            _MEDIUM_DENSE,
            extra_dw(256, 5, 5),
            *(_MEDIUM_DENSE, convnext(256, 5)) * 2,
        ),
        (conv(960, 1),),
    ),
    layer_scale=True,
    drop_path=0.075,
)

_LARGE_STRIDED = attention(192, heads=8, head_dim=48, kv_stride=2)
_LARGE_DENSE = attention(512, heads=8, head_dim=64)

HYBRID_LARGE = replace(
    CONV_LARGE,
    name="hybrid_large",
    stages=(
        *CONV_LARGE.stages[:2],
        (
            *CONV_LARGE.stages[2][:7],
            *(_LARGE_STRIDED, extra_dw(192, 5, 3)) * 3,
            _LARGE_STRIDED,
            convnext(192, 3),
        ),
        (
            *CONV_LARGE.stages[3][:10],
            *(_LARGE_DENSE, convnext(512, 5)) * 4,
        ),
        (conv(960, 1),),
    ),
    activation=Activation.GELU,
    layer_scale=True,
)

ARCHITECTURES = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            CONV_SMALL.scaled("conv_small_035", 0.35),
            CONV_SMALL.scaled("conv_small_050", 0.5),
            CONV_SMALL,
            CONV_MEDIUM,
            CONV_LARGE,
            HYBRID_MEDIUM,
            HYBRID_LARGE,
        )
    }
)
