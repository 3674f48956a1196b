"""Bytes to pixels; knows nothing of requests, arms or runtimes.

JPEG goes through libjpeg-turbo, scaled while it is decoded; all other formats go through Pillow.
Both release the interpreter lock while they decode and resize.
"""

import io
import math
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import Picture
from mnv4serve.errors import BadImage, TooLarge, UnsupportedMedia

FORMATS = ("PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "QOI", "SGI", "JPEG")
"""What is read beside ordinary JPEG: formats with a signature whose size stands in their header
and whose decoder starts no other program."""

_NAMES = ", ".join(sorted(FORMATS))
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_SIGNATURES = (_JPEG_SIGNATURE, b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"qoif")
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_APP1 = 0xE1
_Box = tuple[float, float, float, float]
_MAX_SEGMENTS = 1000
_MAX_SCANS = 100
"""Encoders write about ten; thousands of empty ones are a way to burn a server's time."""
_HARMLESS = ("extraneous bytes", "revision number", "Adobe", "ICC")
"""Complaints of libjpeg about files whose pixels are all there."""
_ORIENTATION_TAG = 0x0112
_TRANSPOSE = dict(enumerate(map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), start=2))
"""Orientations 2 to 8 of EXIF; 1 is upright."""
_REDUCING_GAP = 3.0
"""Above this ratio Pillow halves by whole steps first: faster, and not visibly different."""

# Pillow's own limit only warns; `max_pixels` is checked before anything is decoded.
Image.MAX_IMAGE_PIXELS = None


def read_header(image: bytes, *, max_pixels: int) -> Picture:
    """Format and size of a picture, in microseconds and without decoding it.

    Raises UnsupportedMedia, BadImage, or TooLarge for more than `max_pixels`.
    """
    picture = _jpeg_header(image) if image.startswith(_JPEG_SIGNATURE) else _header(image)
    if picture.pixels < 1:
        raise BadImage(f"the {picture.format} header says {picture.width}x{picture.height} pixels")
    if picture.pixels > max_pixels:
        size = f"{picture.width}x{picture.height}"
        raise TooLarge(f"the picture has {size} pixels; send at most {max_pixels} in all")
    return picture


def decode(
    image: bytes,
    picture: Picture,
    *,
    resolution: int,
    preprocessing: Preprocessing,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """RGB pixels [resolution, resolution, 3], upright, transparency on white; into `out` if given.

    Raises BadImage where the bytes are truncated or corrupt.
    """
    if picture.format == "JPEG":
        square = _decode_jpeg(image, resolution=resolution, preprocessing=preprocessing)
    else:
        square = _decode(image, resolution=resolution, preprocessing=preprocessing)
    pixels: NDArray[np.uint8] = np.asarray(square)
    if out is None:
        return pixels
    out[...] = pixels
    return out


class _Frame(NamedTuple):
    """What the segments before a JPEG's pixels tell."""

    width: int
    height: int
    components: int
    progressive: bool
    exif: bytes


def _segments(image: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each segment's content after the start of the image."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        while image[at + 1] == 0xFF:  # noqa: PLR2004 - fill bytes before a marker
            at += 1
        if image[at] != 0xFF:  # noqa: PLR2004
            break
        end = at + 2 + (image[at + 2] << 8 | image[at + 3])
        yield image[at + 1], at + 4, end
        at = end
    raise BadImage("the JPEG's segments lead nowhere: the file is corrupt")


def _frame(image: bytes) -> _Frame:
    exif = b""
    try:
        for marker, begin, end in _segments(image):
            if marker in _START_OF_FRAME:
                height, width, components = struct.unpack_from(">HHB", image, begin + 1)
                return _Frame(width, height, components, marker in _PROGRESSIVE, exif)
            if marker == _APP1 and not exif and image.startswith(b"Exif\0\0", begin):
                exif = image[begin + 6 : end]
    except (IndexError, struct.error) as error:
        raise BadImage("the JPEG ends within its header") from error
    raise BadImage("the JPEG has no frame header before its pixels")


def _jpeg_header(image: bytes) -> Picture:
    frame = _frame(image)
    if frame.progressive and image.count(b"\xff\xda") > _MAX_SCANS:
        raise BadImage(f"the JPEG has more than {_MAX_SCANS} scans")
    return Picture("JPEG", frame.width, frame.height, len(image))


def _header(image: bytes) -> Picture:
    with _reading(image), Image.open(io.BytesIO(image), formats=FORMATS) as opened:
        return Picture(opened.format or "", opened.width, opened.height, len(image))


def _decode_jpeg(image: bytes, *, resolution: int, preprocessing: Preprocessing) -> Image.Image:
    frame = _frame(image)
    colour = {1: "GRAY", 3: "RGB"}.get(frame.components)
    needed = math.ceil(resolution / _kept(preprocessing))
    if colour is None:
        return _decode(image, resolution=resolution, preprocessing=preprocessing)
    try:
        pixels = _turbo(image, colour=colour, needed=needed)
    except ValueError as error:
        if "subsampling" in str(error):  # unusual, yet within the standard
            return _decode(image, resolution=resolution, preprocessing=preprocessing)
        raise BadImage("the JPEG is truncated or corrupt") from error
    opened = Image.fromarray(pixels[..., 0] if colour == "GRAY" else pixels)
    return _finish(opened, resolution, preprocessing, _orientation(frame.exif))


def _turbo(image: bytes, *, colour: str, needed: int) -> NDArray[np.uint8]:
    """Decoded at the smallest scale that keeps both sides at `needed` pixels or more."""
    try:
        pixels = simplejpeg.decode_jpeg(image, colour, min_height=needed, min_width=needed)
    except ValueError as error:
        if not any(complaint in str(error) for complaint in _HARMLESS):
            raise
        sides = {"min_height": needed, "min_width": needed}
        pixels = simplejpeg.decode_jpeg(image, colour, **sides, strict=False)
    return np.asarray(pixels)


def _decode(image: bytes, *, resolution: int, preprocessing: Preprocessing) -> Image.Image:
    needed = math.ceil(resolution / _kept(preprocessing))
    with _reading(image), Image.open(io.BytesIO(image), formats=FORMATS) as opened:
        opened.draft(None, (needed, needed))
        opened.load()
        orientation = _orientation(opened.info.get("exif", b"").removeprefix(b"Exif\0\0"))
        return _finish(_reduced(opened), resolution, preprocessing, orientation)


def _kept(preprocessing: Preprocessing) -> float:
    """Share of the picture's shorter side that reaches the network."""
    return preprocessing.crop if preprocessing.resize == "shortest" else 1.0


def _reduced(opened: Image.Image) -> Image.Image:
    """The picture in one of the modes L, RGB and RGBA."""
    if opened.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(opened)))
    if opened.has_transparency_data:
        return opened.convert("RGBA")
    if opened.mode in {"1", "L"}:
        return opened.convert("L")
    return opened.convert("RGB")


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Integers as 16-bit samples, floats as samples in [0, 1]."""
    if np.issubdtype(values.dtype, np.floating):
        scaled = np.nan_to_num(values.astype(np.float32)) * np.float32(255)
        return scaled.clip(0, 255).round().astype(np.uint8)
    return (values.astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)


def _finish(
    picture: Image.Image, resolution: int, preprocessing: Preprocessing, orientation: int
) -> Image.Image:
    resampling = Image.Resampling[preprocessing.interpolation.upper()]
    box = _box(picture, preprocessing)
    sides = (resolution, resolution)
    square = picture.resize(sides, resampling, box=box, reducing_gap=_REDUCING_GAP)
    if orientation in _TRANSPOSE:
        square = square.transpose(_TRANSPOSE[orientation])
    if square.mode == "RGBA":
        square = Image.alpha_composite(Image.new("RGBA", sides, "white"), square)
    return square if square.mode == "RGB" else square.convert("RGB")


def _box(picture: Image.Image, preprocessing: Preprocessing) -> _Box | None:
    """The part that fills the square: cropping before resizing gives the same and costs less."""
    if preprocessing.resize == "squash":
        return None
    side = min(picture.size) * preprocessing.crop
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    return left, top, left + side, top + side


def _orientation(exif: bytes) -> int:
    """Number 1 to 8 as the standard has it, 1 where the data does not say or is broken."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, value = struct.unpack_from(f"{order}H6xH", exif, entry)
            if tag == _ORIENTATION_TAG:
                return int(value)
    except struct.error:
        return 1
    return 1


@contextmanager
def _reading(image: bytes) -> Iterator[None]:
    """Everything that Pillow raises over a file, as one of our errors, without its warnings."""
    _quiet.enter()
    try:
        yield
    except UnidentifiedImageError as error:
        raise _unidentified(image) from error
    except Exception as error:  # plugins raise whatever a broken file leads them to
        raise BadImage(f"the picture cannot be read: {' '.join(str(error).split())}") from error
    finally:
        _quiet.leave()


def _unidentified(image: bytes) -> BadImage | UnsupportedMedia:
    if image.startswith(_SIGNATURES):
        return BadImage("the picture's header is truncated or corrupt")
    return UnsupportedMedia(f"the body is no picture in a format that is read: {_NAMES}")


class _Quiet:
    """Holds back Pillow's warnings while any thread reads a picture.

    `warnings.catch_warnings` alone would leave its filters behind when two threads overlap.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._caught = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module="PIL")

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._caught.__exit__(None, None, None)


_quiet = _Quiet()
