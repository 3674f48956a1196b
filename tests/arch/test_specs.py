"""Tests of the architectures as data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.arch.specs import (
    ARCHITECTURES,
    CONV_SMALL,
    Attention,
    Bottleneck,
    convnext,
    extra_dw,
    ffn,
    inverted,
    rounded,
)


@given(st.floats(min_value=1, max_value=4000))
def test_rounded_channels_are_multiples_of_eight_close_to_the_request(channels: float) -> None:
    """Rounding goes to a multiple of 8 and takes at most a tenth away."""
    result = rounded(channels)

    assert result % 8 == 0
    assert 0.9 * channels <= result <= max(channels + 8, 8)


@pytest.mark.parametrize(
    ("block", "kernels"),
    [
        (extra_dw(96, 5, 3), (5, 3)),
        (inverted(96, 3), (None, 3)),
        (convnext(96, 3), (3, None)),
        (ffn(96), (None, None)),
    ],
)
def test_constructors_name_the_four_instantiations(
    block: Bottleneck, kernels: tuple[int | None, int | None]
) -> None:
    """Each constructor sets which of the two depthwise convolutions exist."""
    assert (block.start_kernel, block.mid_kernel) == kernels


def test_seven_architectures_halve_five_times() -> None:
    """Stem and trunk together reduce every architecture's input by 32."""
    for architecture in ARCHITECTURES.values():
        strides = 2
        for stage in architecture.stages:
            for block in stage:
                strides *= 1 if isinstance(block, Attention) else block.stride
        assert strides == 32

    assert len(ARCHITECTURES) == 7


def test_width_changes_the_trunk_only() -> None:
    """A narrower network keeps stem, kernels and expansion ratios."""
    narrow = CONV_SMALL.scaled("narrow", 0.5)

    assert narrow.stem_channels == CONV_SMALL.stem_channels
    assert [block.out_channels for block in narrow.stages[1]] == [48, 32]
    assert narrow.stages[4][0].out_channels == 480
