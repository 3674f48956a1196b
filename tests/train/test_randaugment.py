"""Tests of RandAugment on batches."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from mnv4serve.train.augment import resample
from mnv4serve.train.randaugment import (
    COLOURS,
    GEOMETRIES,
    bend,
    draw_operations,
    recolour,
)

UPRIGHT = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
AUTOCONTRAST, EQUALIZE, INVERT, POSTERIZE, SOLARIZE, SOLARIZE_ADD = range(6)
COLOUR, CONTRAST, BRIGHTNESS, SHARPNESS = range(6, 10)
SIDE = 128


def photo() -> Image.Image:
    """Smooth enough for interpolation, with all levels and some colour."""
    ramp = np.linspace(20, 230, SIDE)
    red = np.tile(ramp, (SIDE, 1))
    return Image.fromarray(np.stack([red, red.T, (red + red.T) / 3], -1).astype(np.uint8))


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


def applied(kind: int, magnitude: float = 9) -> Tensor:
    return recolour(pixels(photo()), np.array([[GEOMETRIES + kind]]), magnitude)


@pytest.mark.parametrize(
    ("kind", "expected", "tolerance"),
    [
        (AUTOCONTRAST, ImageOps.autocontrast(photo()), 2),
        (EQUALIZE, ImageOps.equalize(photo()), 6),
        (INVERT, ImageOps.invert(photo()), 1),
        (POSTERIZE, ImageOps.posterize(photo(), 5), 1),
        (SOLARIZE, ImageOps.solarize(photo(), round(0.9 * 255)), 1),
        (COLOUR, ImageEnhance.Color(photo()).enhance(1.72), 3),
        (CONTRAST, ImageEnhance.Contrast(photo()).enhance(1.72), 3),
        (BRIGHTNESS, ImageEnhance.Brightness(photo()).enhance(1.72), 2),
        (SHARPNESS, ImageEnhance.Sharpness(photo()).enhance(1.72), 12),
    ],
)
def test_colours_equal_the_library_that_the_policy_was_written_for(
    kind: int, expected: Image.Image, tolerance: float
) -> None:
    """Within rounding; sharpening differs at the border, which Pillow leaves alone."""
    difference = (applied(kind) - pixels(expected)).abs()[..., 1:-1, 1:-1] * 255

    assert difference.mean() <= tolerance / 2
    assert difference.max() <= tolerance


def test_solarize_add_brightens_the_dark_half() -> None:
    """Bright pixels stay as they are."""
    before, after = pixels(photo()), applied(SOLARIZE_ADD)

    assert torch.equal(after[before >= 0.5], before[before >= 0.5])
    torch.testing.assert_close(after[before < 0.4], before[before < 0.4] + 0.9 * 110 / 256)


@pytest.mark.parametrize("kind", range(len(COLOURS)))
def test_every_colour_stays_in_range(kind: int) -> None:
    """Also at full strength and on a picture of one colour."""
    flat = torch.full((2, 3, 8, 8), 0.7)

    found = recolour(flat, np.full((1, 2), -1 - GEOMETRIES - kind), 10)

    assert found.isfinite().all()
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("kind", range(GEOMETRIES))
def test_sign_turns_geometry_round(kind: int) -> None:
    """A positive and a negative operation undo each other where they are small."""
    there, back = np.array([[kind], [-1 - kind]]), np.array([[kind]])

    unmoved = bend(UPRIGHT.copy(), there, 1)
    moved = bend(UPRIGHT.copy(), back, 1)

    np.testing.assert_allclose(unmoved, UPRIGHT, atol=5e-3)
    assert np.abs(moved - UPRIGHT).max() > 0.01


def test_geometry_acts_on_the_crop() -> None:
    """A quarter of the picture, moved, is the moved quarter: the same share of its own width."""
    quarter = np.array([[[0.5, 0, -0.5], [0, 0.5, -0.5]]], np.float32)

    moved = bend(quarter, np.array([[3]]), 10)

    np.testing.assert_allclose(moved[0, :, 2], [-0.5 + 0.5 * 0.2, -0.5], rtol=1e-6)
    assert resample(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), moved, 8).shape == (1, 3, 8, 8)


def test_operations_are_drawn_evenly_with_both_signs() -> None:
    """Fifteen kinds, none of them rare."""
    drawn = draw_operations(2, 15_000, np.random.default_rng(0))

    kinds, counts = np.unique(drawn, return_counts=True)
    assert kinds.tolist() == list(range(-15, 15))
    assert counts.min() > 850
