"""Behaviour of mnv4serve.profiler.decoding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import Picture
from mnv4serve.images import read_header
from mnv4serve.profiler.decoding import example_photo, fit, measure_decode
from mnv4serve.router.decode_cost import DecodeCost, decode_features

PICTURES = [
    Picture(name, side, side * 3 // 4, n_bytes)
    for name in ("JPEG", "PNG")
    for side in (64, 224, 500, 1600)
    for n_bytes in (2_000, 100_000, 900_000)
]
POSITIVE = st.floats(0.001, 50.0)


@given(st.tuples(*[POSITIVE] * 7))
def test_the_fit_finds_the_coefficients_behind_the_times(
    coefficients: tuple[float, ...],
) -> None:
    """Times made from a cost give that cost's predictions back."""
    truth = DecodeCost(*coefficients)
    cases = [(picture, side) for picture in PICTURES for side in (96, 160, 224)]
    features = [decode_features(picture, side) for picture, side in cases]

    found = fit(features, [truth.expect(picture, side) for picture, side in cases])

    for picture, side in cases:
        assert found.expect(picture, side) == pytest.approx(truth.expect(picture, side), rel=0.02)


def test_no_coefficient_is_negative() -> None:
    """Times that fall with size are noise; no cost may be below zero."""
    features = [decode_features(picture, 224) for picture in PICTURES]
    times_ms = [10.0 / (1 + picture.pixels / 1e5) for picture in PICTURES]

    found = fit(features, times_ms)

    assert all(
        value >= 0.0
        for value in (
            found.base_ms,
            found.per_megabyte_ms,
            found.per_megapixel_ms,
            found.per_output_megapixel_ms,
            found.other_per_megapixel_ms,
            found.whole_per_megapixel_ms,
            found.slow_per_megapixel_ms,
        )
    )


def test_the_example_is_a_usual_photo() -> None:
    """A 500x375 JPEG of about 100 kB."""
    image = example_photo()

    picture = read_header(image, max_pixels=1_000_000)

    assert (picture.format, picture.width, picture.height) == ("JPEG", 500, 375)
    assert 70_000 < picture.n_bytes < 130_000


def test_measured_costs_grow_with_the_picture() -> None:
    """Real decoding is predicted to take longer for more bytes and more pixels."""
    half = (0.5, 0.5, 0.5)
    cost = measure_decode(
        resolutions=(96, 224),
        preprocessing=Preprocessing(resize="squash", mean=half, std=half),
        quick=True,
    )

    small = cost.expect(Picture("JPEG", 320, 240, 20_000), 96)
    large = cost.expect(Picture("JPEG", 3200, 2400, 2_000_000), 96)
    assert np.isfinite(small)
    assert 0.0 < small < large
    assert cost.expect(Picture("PNG", 320, 240, 100_000), 96) > 0.0
