"""Tests of single blocks."""

import pytest
import torch
from torch.nn import functional

from mnv4serve.arch.blocks import DropPath, MultiQueryAttention, Style, build_block
from mnv4serve.arch.specs import (
    Activation,
    Attention,
    Block,
    attention,
    conv,
    convnext,
    extra_dw,
    ffn,
    fused,
    inverted,
)

STYLE = Style(Activation.RELU, layer_scale=True, drop_path=0.0)


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        (conv(24, 3, stride=2), 8),
        (fused(24, 3, expand=4, stride=2), 8),
        (extra_dw(24, 5, 3, stride=2), 8),
        (inverted(16, 3), 16),
        (convnext(16, 5), 16),
        (ffn(16), 16),
        (attention(16, heads=2, head_dim=8), 16),
        (attention(16, heads=2, head_dim=8, kv_stride=2), 16),
    ],
)
def test_every_block_gives_its_channels_and_stride(spec: Block, side: int) -> None:
    """The output has the shape that the spec says."""
    block = build_block(16, spec, STYLE)

    out = block(torch.randn(2, 16, 16, 16))

    assert out.shape == (2, spec.out_channels, side, side)


@pytest.mark.parametrize("kv_stride", [1, 2])
def test_attention_equals_the_textbook_form(kv_stride: int) -> None:
    """One product for all heads gives what scaled dot-product attention gives head by head."""
    torch.manual_seed(0)
    module = MultiQueryAttention(16, Attention(16, 4, 8, kv_stride)).eval()
    x = torch.randn(2, 16, 6, 10)

    out = module(x)

    query = module.query(x).reshape(2, 4, 8, 60).transpose(2, 3)
    key = module.key(x).reshape(2, 1, 8, -1).transpose(2, 3).expand(-1, 4, -1, -1)
    value = module.value(x).reshape(2, 1, 8, -1).transpose(2, 3).expand(-1, 4, -1, -1)
    heads = functional.scaled_dot_product_attention(query, key, value)
    expected = module.output(heads.transpose(2, 3).reshape(2, 32, 6, 10))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_drop_path_keeps_the_mean_in_training_only() -> None:
    """Dropped samples are zero, the others scaled up; evaluation changes nothing."""
    torch.manual_seed(0)
    drop = DropPath(0.25)
    ones = torch.ones(4000, 1, 1, 1)

    trained = drop.train()(ones)

    assert sorted(trained.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert trained.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(ones) is ones
