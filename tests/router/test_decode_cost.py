import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.domain import Picture
from mnv4serve.router.decode_cost import DecodeCost, Decoding, dct_eighths, decode_features


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 32).map(lambda n: 32 * n))
def test_dct_scale_is_the_smallest_that_keeps_the_resolution(
    width: int, height: int, resolution: int
) -> None:
    """A JPEG is decoded at the smallest eighth whose sides both reach the resolution."""
    fits = [n for n in range(1, 9) if min(-(-width * n // 8), -(-height * n // 8)) >= resolution]

    eighths = dct_eighths(Picture("JPEG", width, height, 1000), resolution)

    assert eighths == min(fits, default=8)


def test_jpeg_pays_for_the_pixels_it_is_scaled_to() -> None:
    """Four times the pixels at half the scale cost the same transform, but more bytes."""
    cost = DecodeCost(0.5, 2.0, 4.0, 1.0, 100.0)
    large = Picture("JPEG", 1600, 1600, 500_000)

    expected = 0.5 + 2.0 * 0.5 + 4.0 * (2.56 * 0.0625) + 1.0 * 0.160 * 0.160

    assert cost.expect(large, 160) == pytest.approx(0.5 + 1.0 + 4.0 * 0.04 + 0.0256)
    assert decode_features(large, 160)[2] == pytest.approx(2.56 / 64)
    assert cost.expect(large, 400) == pytest.approx(expected - 0.0256 + 0.16)


def test_scales_without_vector_code_cost_more() -> None:
    """Five eighths of a JPEG take longer for each pixel than four or eight; every block is read."""
    cost = DecodeCost(0.0, 0.0, 1.0, 0.0, 0.0, 10.0, 4.0)
    photo = Picture("JPEG", 800, 800, 0)

    by_eighths = {side // 100: cost.expect(photo, side) for side in (400, 500, 800)}

    assert by_eighths[4] == pytest.approx(6.4 + 0.16)
    assert by_eighths[5] == pytest.approx(6.4 + 5 * 0.25)
    assert by_eighths[8] == pytest.approx(6.4 + 0.64)


def test_other_formats_pay_for_all_pixels() -> None:
    """A format that cannot be scaled while decoding costs by its full size."""
    cost = DecodeCost(0.5, 0.0, 4.0, 0.0, 30.0)

    assert cost.expect(Picture("PNG", 1000, 2000, 0), 160) == pytest.approx(60.5)


def test_pictures_of_several_formats_decoded_together_teach_nothing() -> None:
    """What a mixed batch took is nobody's; what one of one format took corrects that format."""
    cost = DecodeCost(1.0, 0.0, 0.0, 0.0, 0.0)
    photo, drawing = Picture("JPEG", 500, 375, 0), Picture("PNG", 500, 375, 0)
    subject = Decoding(cost)

    subject.observe([photo, drawing], 160, 8.0, slowdown=1.0)
    untaught_ms = subject.expect_ms(photo, 160, slowdown=2.0)
    subject.observe([photo, photo], 160, 8.0, slowdown=1.0)

    assert untaught_ms == 2.0
    assert subject.expect_ms(photo, 160, slowdown=2.0) > 2.0
    assert subject.expect_ms(drawing, 160, slowdown=2.0) == 2.0


def test_each_scale_of_a_jpeg_is_corrected_by_itself() -> None:
    """One scale that takes three times as long says nothing of the others."""
    photo = Picture("JPEG", 500, 375, 0)
    subject = Decoding(DecodeCost(1.0, 0.0, 0.0, 0.0, 0.0))

    for _ in range(100):
        subject.observe([photo], 224, 3.0, slowdown=1.0)

    assert subject.expect_ms(photo, 224, slowdown=1.0) == pytest.approx(3.0, rel=0.05)
    assert subject.expect_ms(photo, 96, slowdown=1.0) == 1.0
