"""Behaviour of mnv4serve.images."""

import io
import random
import struct
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mnv4serve.catalog import Preprocessing
from mnv4serve.errors import BadImage, ServeError, TooLarge, UnsupportedMedia
from mnv4serve.images import decode, read_header

HALF = (0.5, 0.5, 0.5)
SQUASH = Preprocessing(resize="squash", mean=HALF, std=HALF)
CROP = Preprocessing(resize="shortest", crop=0.5, mean=HALF, std=HALF)
LIMIT = 1_000_000
LOSSLESS = ("PNG", "BMP", "TIFF", "PPM", "QOI", "SGI")
LOSSY = ("JPEG", "WEBP", "AVIF", "GIF", "JPEG2000")
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(width: int = 80, height: int = 60) -> Image.Image:
    """Red, green, blue and white quarters: upper left, upper right, lower left, lower right."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = WHITE
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def decoded(
    image: bytes, *, resolution: int = 32, preprocessing: Preprocessing = SQUASH
) -> NDArray[np.uint8]:
    picture = read_header(image, max_pixels=LIMIT)
    return decode(image, picture, resolution=resolution, preprocessing=preprocessing)


def corners(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Upper left, upper right, lower left, lower right, each channel rounded to 0 or 255."""
    last = len(pixels) - 3
    points = ((2, 2), (2, last), (last, 2), (last, last))
    return [tuple(int(c > 127) * 255 for c in pixels[point]) for point in points]


@pytest.mark.parametrize("name", LOSSLESS + LOSSY)
def test_every_format_is_read_with_its_size_and_colours(name: str) -> None:
    """Header and pixels of each format agree with what was written."""
    image = encoded(quadrants(), name)

    picture = read_header(image, max_pixels=LIMIT)
    pixels = decoded(image)

    assert (picture.format, picture.width, picture.height) == (name, 80, 60)
    assert picture.n_bytes == len(image)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert corners(pixels) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_pictures_are_turned_upright(
    name: str, orientation: int, upright: list[tuple[int, ...]]
) -> None:
    """The EXIF orientation is applied in every format that carries one."""
    exif = Image.Exif()
    exif[0x0112] = orientation

    pixels = decoded(encoded(quadrants(), name, exif=exif))

    assert corners(pixels) == upright


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 9,
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0",
    ],
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    """A picture with unreadable EXIF data is taken as upright."""
    image = encoded(quadrants(), "JPEG")
    segment = b"Exif\0\0" + exif
    image = image[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + image[2:]

    assert corners(decoded(image)) == [RED, GREEN, BLUE, WHITE]


def test_greyscale_becomes_rgb() -> None:
    """Grey JPEG and PNG give three equal channels."""
    grey = Image.linear_gradient("L")

    for name in ("JPEG", "PNG"):
        pixels = decoded(encoded(grey, name))

        assert (pixels[..., 0] == pixels[..., 2]).all()
        assert pixels[2].mean() < 40
        assert pixels[-3].mean() > 215


def test_cmyk_jpeg_is_converted() -> None:
    """A CMYK JPEG shows the colours of its RGB original."""
    image = encoded(quadrants().convert("CMYK"), "JPEG")

    assert corners(decoded(image)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg_is_read(subsampling: str, *, progressive: bool) -> None:
    """Chroma subsampling and progressive coding do not matter."""
    image = encoded(quadrants(), "JPEG", subsampling=subsampling, progressive=progressive)

    assert corners(decoded(image)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode: str) -> None:
    """Fully transparent pixels come out white, opaque ones as they are."""
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (20, 0, 40, 40))

    pixels = decoded(encoded(picture.convert(mode), "PNG"))

    assert pixels[16, 4].tolist() == [255, 255, 255]
    assert pixels[16, 28].tolist() == [0, 0, 0]


def test_palette_and_bilevel_pictures_are_read() -> None:
    """Pictures with a palette or one bit per pixel keep their colours."""
    assert corners(decoded(encoded(quadrants().convert("P"), "PNG"))) == [RED, GREEN, BLUE, WHITE]
    half = Image.new("1", (32, 32))
    half.paste(1, (16, 0, 32, 32))

    pixels = decoded(encoded(half, "PNG"))

    assert pixels[16, 2].tolist() == [0, 0, 0]
    assert pixels[16, 30].tolist() == [255, 255, 255]


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(name: str) -> None:
    """A 16-bit grey of half intensity comes out as half intensity."""
    image = encoded(Image.fromarray(np.full((32, 32), 0x8000, np.uint16)), name)

    assert abs(int(decoded(image)[16, 16, 0]) - 128) <= 1


def test_float_samples_count_from_zero_to_one() -> None:
    """A TIFF of floats reads as shares of full intensity, NaN as black."""
    values = np.full((32, 32), 0.5, np.float32)
    values[:, 16:] = np.nan

    pixels = decoded(encoded(Image.fromarray(values), "TIFF"))

    assert abs(int(pixels[16, 4, 0]) - 128) <= 1
    assert pixels[16, 30, 0] == 0


def test_first_frame_of_an_animation_counts() -> None:
    """Later frames of a GIF and a WebP are ignored."""
    later = [Image.new("RGB", (80, 60), "black")]

    for name in ("GIF", "WEBP"):
        image = encoded(quadrants(), name, save_all=True, append_images=later)

        assert corners(decoded(image)) == [RED, GREEN, BLUE, WHITE]


def test_squash_shows_the_whole_picture() -> None:
    """The picture's edges reach the square's edges whatever its aspect ratio."""
    for size in ((300, 40), (40, 300)):
        pixels = decoded(encoded(quadrants(*size), "PNG"))

        assert corners(pixels) == [RED, GREEN, BLUE, WHITE]


def test_shortest_keeps_the_aspect_and_crops_the_centre() -> None:
    """Only the centre square remains, as large as the crop's share of the shorter side."""
    picture = Image.new("RGB", (120, 60), "white")
    picture.paste((0, 0, 0), (45, 15, 75, 45))  # exactly the centre half of the shorter side

    for name in ("PNG", "JPEG"):
        pixels = decoded(encoded(picture, name), preprocessing=CROP)

        assert pixels[2:-2, 2:-2].max() < 20


def test_jpeg_is_scaled_without_aliasing() -> None:
    """A fine checkerboard becomes even grey, through DCT scaling as well as through Pillow."""
    board = np.indices((512, 512)).sum(axis=0) % 2 * 255
    picture = Image.fromarray(board.astype(np.uint8)).convert("RGB")

    for image in (encoded(picture, "JPEG", quality=95), encoded(picture, "PNG")):
        for resolution in (32, 96, 160):
            pixels = decoded(image, resolution=resolution).astype(int)

            assert np.abs(pixels[4:-4, 4:-4] - 128).max() < 24


def test_jpeg_and_lossless_agree() -> None:
    """DCT scaling gives nearly the pixels that full decoding and resizing give."""
    gradient = Image.linear_gradient("L").resize((500, 375)).convert("RGB")

    jpeg = decoded(encoded(gradient, "JPEG", quality=95), resolution=96).astype(int)
    png = decoded(encoded(gradient, "PNG"), resolution=96).astype(int)

    assert np.abs(jpeg - png).mean() < 1.5


def test_pixels_go_into_the_given_buffer() -> None:
    """With `out` the pixels lie in the caller's array."""
    image = encoded(quadrants(), "JPEG")
    picture = read_header(image, max_pixels=LIMIT)
    batch = np.zeros((2, 32, 32, 3), np.uint8)

    result = decode(image, picture, resolution=32, preprocessing=SQUASH, out=batch[1])

    assert np.shares_memory(result, batch)
    assert (batch[1] == decoded(image)).all()
    assert not batch[0].any()


@pytest.mark.parametrize("name", LOSSLESS + LOSSY)
def test_too_many_pixels_are_refused_from_the_header(name: str) -> None:
    """The limit is checked before anything is decoded: a header alone is enough."""
    image = encoded(quadrants(), name)

    with pytest.raises(TooLarge, match="80x60"):
        read_header(image, max_pixels=80 * 60 - 1)


def test_a_bomb_is_refused_without_being_decoded() -> None:
    """A PNG and a JPEG that claim billions of pixels cost nothing."""
    png = encoded(quadrants(), "PNG")
    jpeg = encoded(quadrants(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    huge_png = png[:16] + struct.pack(">II", 100_000, 100_000) + png[24:]
    huge_jpeg = jpeg[: frame + 5] + struct.pack(">HH", 65_000, 65_000) + jpeg[frame + 9 :]

    with pytest.raises(TooLarge):
        read_header(huge_jpeg, max_pixels=LIMIT)
    with pytest.raises((TooLarge, BadImage)):  # the checksum of the altered header is wrong
        read_header(huge_png, max_pixels=LIMIT)


def test_a_jpeg_with_endless_scans_is_refused() -> None:
    """Thousands of scans over the same pixels are no picture."""
    image = encoded(quadrants(), "JPEG", progressive=True)
    scan = image.rindex(b"\xff\xda")

    with pytest.raises(BadImage, match="scans"):
        read_header(image[:-2] + image[scan:-2] * 200 + image[-2:], max_pixels=LIMIT)


@pytest.mark.parametrize("body", [b"", b"\0", b"hello", b"<svg></svg>", b"%PDF-1.7", b"\xff\xd8"])
def test_what_is_no_picture_is_unsupported(body: bytes) -> None:
    """Bytes without the signature of a format that is read."""
    with pytest.raises(UnsupportedMedia, match="JPEG"):
        read_header(body, max_pixels=LIMIT)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_truncated_header_is_a_bad_image(name: str) -> None:
    """A known signature with nothing behind it."""
    with pytest.raises(BadImage):
        read_header(encoded(quadrants(), name)[:12], max_pixels=LIMIT)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_truncated_picture_is_a_bad_image(name: str) -> None:
    """Half of the pixels are missing."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = encoded(Image.fromarray(noise), name)

    with pytest.raises(BadImage):
        decoded(image[: len(image) // 2])


def test_a_jpeg_without_pixels_is_a_bad_image() -> None:
    """A height of zero, and segments that lead nowhere."""
    image = encoded(quadrants(), "JPEG")
    frame = image.index(b"\xff\xc0")

    for broken in (
        image[: frame + 5] + b"\0\0" + image[frame + 7 :],
        image[:4] + b"\xff\xff" + image[6:],
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2000,
    ):
        with pytest.raises(BadImage):
            read_header(broken, max_pixels=LIMIT)


def test_harmless_garbage_in_a_jpeg_is_forgiven() -> None:
    """Bytes between the pixels and the end marker, as some cameras write, lose nothing."""
    image = encoded(quadrants(), "JPEG")

    pixels = decoded(image[:-2] + b"\x01\x02\x03\x04" + image[-2:] + b"trailer")

    assert corners(pixels) == [RED, GREEN, BLUE, WHITE]


SEEDS = tuple(
    encoded(quadrants(), name, **options)
    for name, options in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "quality": 40}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("PPM", {}),
        ("QOI", {}),
    )
)


def mutated(dice: random.Random) -> bytes:
    """A picture with bytes replaced, cut out, doubled or cut off, mostly in its header."""
    image = bytearray(dice.choice(SEEDS))
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(dice.choice((64, len(image))))
        span = dice.randint(1, 12)
        match dice.randrange(5):
            case 0 | 1:
                image[at : at + span] = dice.randbytes(span)
            case 2:
                del image[at : at + span]
            case 3:
                image[at:at] = image[at : at + span]
            case _:
                image[at : at + 1] = dice.choice((b"\0", b"\xff", b"\x7f", b"\x80"))
    return bytes(image[: dice.choice((len(image), dice.randrange(1, len(image))))])


@pytest.mark.parametrize("seed", range(8))
def test_mutated_pictures_never_raise_anything_else(seed: int) -> None:
    """2,400 damaged files either decode or are refused with one of our errors."""
    dice = random.Random(seed)
    refused = 0

    for _ in range(300):
        try:
            pixels = decoded(mutated(dice))
        except (BadImage, TooLarge, UnsupportedMedia):
            refused += 1
        else:
            assert pixels.shape == (32, 32, 3)

    assert refused > 50


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise_anything_else(body: bytes) -> None:
    """Any bytes behind any signature."""
    for signature in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM"):
        try:
            decoded(signature + body)
        except ServeError as error:
            assert isinstance(error, BadImage | TooLarge | UnsupportedMedia)  # noqa: PT017


def test_warnings_do_not_leak() -> None:
    """Pillow's complaints about odd files stay inside, even where everything is shown."""
    exif = encoded(quadrants(), "TIFF").replace(b"\x00\x01\x03\x00\x01", b"\x00\x01\x03\x00\x09")
    palette = encoded(Image.new("P", (8, 8)), "PNG", transparency=bytes(range(256)))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for image in (palette, exif, encoded(quadrants(), "TIFF")[:-10]):
            try:
                decoded(image)
            except ServeError:
                continue

    assert caught == []


def test_threads_decode_side_by_side() -> None:
    """Concurrent reads give the same pixels as one after the other, and leave no filter behind."""
    images = [encoded(quadrants(), name) for name in LOSSLESS + LOSSY] * 4
    expected = [decoded(image) for image in images]
    filters = list(warnings.filters)
    results: list[list[NDArray[np.uint8]]] = [[], []]

    def work(found: list[NDArray[np.uint8]]) -> None:
        found.extend(decoded(image) for image in images)

    threads = [threading.Thread(target=work, args=(found,)) for found in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for found in results:
        assert all((a == b).all() for a, b in zip(found, expected, strict=True))
    assert warnings.filters == filters
