"""The building blocks as PyTorch modules, attributes named so that state-dict keys are timm's."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from mnv4serve.arch.specs import Activation, Attention, Block, Bottleneck, Conv, Fused, rounded

LAYER_SCALE_START = 1e-5


@dataclass(frozen=True, slots=True)
class Style:
    """What a block shares with its network, and how often training drops it."""

    activation: Activation
    layer_scale: bool
    drop_path: float


def activation(kind: Activation) -> nn.Module:
    match kind:
        case Activation.RELU:
            return nn.ReLU(inplace=True)
        case Activation.GELU:
            return nn.GELU()


def convolution(
    channels: int, out_channels: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A bias-free convolution with symmetric padding, also at stride 2."""
    padding = (kernel - 1) // 2
    return nn.Conv2d(channels, out_channels, kernel, stride, padding, groups=groups, bias=False)


class DropPath(nn.Module):
    """Stochastic depth: training drops a sample's residual branch and scales up the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(keep).div_(keep)


class LayerScale(nn.Module):
    """A learned factor per channel that starts near zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE_START))

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(1, -1, 1, 1)


class ConvNorm(nn.Module):
    """One convolution of a universal bottleneck with its batch norm, activated or not."""

    def __init__(self, conv: nn.Conv2d, act: Activation | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels)
        self.act = activation(act) if act else nn.Identity()

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class ConvBlock(nn.Module):
    """A full convolution that is a block of its own."""

    def __init__(self, channels: int, spec: Conv, style: Style) -> None:
        super().__init__()
        self.conv = convolution(channels, spec.out_channels, spec.kernel, stride=spec.stride)
        self.bn1 = nn.BatchNorm2d(spec.out_channels)
        self.act = activation(style.activation)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn1(self.conv(x)))
        return out


class FusedBottleneck(nn.Module):
    """Expand with a full convolution, then project linearly."""

    def __init__(self, channels: int, spec: Fused, style: Style) -> None:
        super().__init__()
        expanded = rounded(channels * spec.expand)
        self.conv_exp = convolution(channels, expanded, spec.kernel, stride=spec.stride)
        self.bn1 = nn.BatchNorm2d(expanded)
        self.act = activation(style.activation)
        self.conv_pwl = convolution(expanded, spec.out_channels)
        self.bn2 = nn.BatchNorm2d(spec.out_channels)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv_pwl(self.act(self.bn1(self.conv_exp(x)))))
        return out


class UniversalBottleneck(nn.Module):
    """UIB: [depthwise], expand, [depthwise], project; the stride sits on the later depthwise."""

    def __init__(self, channels: int, spec: Bottleneck, style: Style) -> None:
        super().__init__()
        expanded = rounded(channels * spec.expand)
        start_stride = 1 if spec.mid_kernel else spec.stride
        self.dw_start = _depthwise(channels, spec.start_kernel, start_stride)
        self.pw_exp = ConvNorm(convolution(channels, expanded), style.activation)
        self.dw_mid = _depthwise(expanded, spec.mid_kernel, spec.stride, style.activation)
        self.pw_proj = ConvNorm(convolution(expanded, spec.out_channels))
        self.layer_scale = _layer_scale(spec.out_channels, style)
        self.residual = spec.stride == 1 and channels == spec.out_channels
        self.drop_path = DropPath(style.drop_path)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pw_proj(self.dw_mid(self.pw_exp(self.dw_start(x))))
        out = self.layer_scale(out)
        return x + self.drop_path(out) if self.residual else out


class Projection(nn.Module):
    """A 1x1 projection, for keys and values after an optional depthwise down-sampling."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        if stride > 1:
            self.down_conv = convolution(channels, channels, 3, stride=stride, groups=channels)
            self.norm = nn.BatchNorm2d(channels)
        self.proj = convolution(channels, out_channels)
        self.stride = stride

    @override
    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = self.norm(self.down_conv(x))
        out: Tensor = self.proj(x)
        return out


class MultiQueryAttention(nn.Module):
    """All query heads in one matrix product against the single key head; no head is copied."""

    def __init__(self, channels: int, spec: Attention) -> None:
        super().__init__()
        self.query = Projection(channels, spec.heads * spec.head_dim)
        self.key = Projection(channels, spec.head_dim, spec.kv_stride)
        self.value = Projection(channels, spec.head_dim, spec.kv_stride)
        self.output = Projection(spec.heads * spec.head_dim, channels)
        self.heads = spec.heads
        self.scale = spec.head_dim**-0.5

    @override
    def forward(self, x: Tensor) -> Tensor:
        height_width = x.shape[-2:]
        query = self.query(x).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        scores = (query.flatten(1, 2) * self.scale) @ self.key(x).flatten(2)
        mixed = scores.softmax(-1) @ self.value(x).flatten(2).transpose(1, 2)
        heads = mixed.unflatten(1, (self.heads, -1)).transpose(2, 3).flatten(1, 2)
        out: Tensor = self.output(heads.unflatten(2, height_width))
        return out


class AttentionBlock(nn.Module):
    """Pre-normalised attention with layer scale and a residual; no feed-forward part."""

    def __init__(self, channels: int, spec: Attention, style: Style) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.attn = MultiQueryAttention(channels, spec)
        self.layer_scale = _layer_scale(channels, style)
        self.drop_path = DropPath(style.drop_path)

    @override
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop_path(self.layer_scale(self.attn(self.norm(x))))
        return out


def build_block(channels: int, spec: Block, style: Style) -> nn.Module:
    """The module of one block whose input has `channels` channels."""
    match spec:
        case Conv():
            return ConvBlock(channels, spec, style)
        case Fused():
            return FusedBottleneck(channels, spec, style)
        case Bottleneck():
            return UniversalBottleneck(channels, spec, style)
        case Attention():
            return AttentionBlock(channels, spec, style)


def _depthwise(
    channels: int, kernel: int | None, stride: int, act: Activation | None = None
) -> nn.Module:
    if kernel is None:
        return nn.Identity()
    return ConvNorm(convolution(channels, channels, kernel, stride=stride, groups=channels), act)


def _layer_scale(channels: int, style: Style) -> nn.Module:
    return LayerScale(channels) if style.layer_scale else nn.Identity()
