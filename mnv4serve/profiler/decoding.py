"""What decoding costs on this host, as coefficients over what a picture's header tells."""

import io
import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnv4serve.catalog import Preprocessing
from mnv4serve.images import decode, read_header
from mnv4serve.profiler.timing import Clock, Effort, measure
from mnv4serve.router.decode_cost import DecodeCost, decode_features

_JPEG_SIDES = (
    (96, 96),
    (160, 120),
    (224, 224),
    (320, 240),
    (500, 375),
    (375, 500),
    (800, 600),
    (1600, 1200),
)
_JPEG_QUALITIES = (60, 95)
_FULL_CHROMA = 0
"""As good cameras and editors write them; with less of it a picture costs little less."""
_PNG_SIDES = ((224, 224), (500, 375), (1000, 750))
_QUICK = Effort(warm_up=1, min_runs=5, max_runs=25, max_seconds=0.01)
_THOROUGH = Effort(warm_up=2, min_runs=15, max_runs=100, max_seconds=0.15)
_SWEEPS = 5000


def measure_decode(
    *,
    resolutions: Sequence[int],
    preprocessing: Preprocessing,
    quick: bool,
    clock: Clock = time.perf_counter,
) -> DecodeCost:
    """Decode pictures of several sizes, qualities and formats, and fit their times."""
    effort = _QUICK if quick else _THOROUGH
    features, times_ms = [], []
    for image in _pictures():
        picture = read_header(image, max_pixels=len(image) << 16)
        for resolution in sorted(set(resolutions)):
            run = partial(
                decode, image, picture, resolution=resolution, preprocessing=preprocessing
            )
            samples = sorted(measure(run, effort=effort, clock=clock))
            features.append(decode_features(picture, resolution))
            times_ms.append(samples[len(samples) // 4])  # what other work on the host spared
    return fit(features, times_ms)


def fit(features: Sequence[Sequence[float]], times_ms: Sequence[float]) -> DecodeCost:
    """Non-negative least squares of the relative errors, so that small pictures count too."""
    weights = 1.0 / np.maximum(np.asarray(times_ms), 1e-3)
    rows = np.asarray(features) * weights[:, np.newaxis]
    return DecodeCost(*_non_negative(rows, np.asarray(times_ms) * weights).tolist())


def _non_negative(rows: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinate descent on the normal equations: a handful of unknowns needs nothing better."""
    scale = np.maximum(np.linalg.norm(rows, axis=0), 1e-12)
    gram = (rows / scale).T @ (rows / scale)
    moment = (rows / scale).T @ target
    solution = np.zeros(len(moment))
    for _ in range(_SWEEPS):
        before = solution.copy()
        for i in range(len(moment)):
            rest = gram[i] @ solution - gram[i, i] * solution[i]
            solution[i] = max(0.0, (moment[i] - rest) / max(gram[i, i], 1e-12))
        if np.abs(solution - before).max() < 1e-9:  # noqa: PLR2004 - converged
            break
    return np.asarray(solution / scale)


def example_photo() -> bytes:
    """A JPEG as cameras and the web send them: 500x375 and about 100 kB."""
    return _encoded(_scene(np.random.default_rng(0), 500, 375), "JPEG", quality=92)


def _pictures() -> Iterator[bytes]:
    noise = np.random.default_rng(0)
    for width, height in _JPEG_SIDES:
        scene = _scene(noise, width, height)
        for quality in _JPEG_QUALITIES:
            yield _encoded(scene, "JPEG", quality=quality, subsampling=_FULL_CHROMA)
    for width, height in _PNG_SIDES:
        yield _encoded(_scene(noise, width, height), "PNG", compress_level=6)


def _scene(noise: np.random.Generator, width: int, height: int) -> Image.Image:
    """Colours that change at every scale, roughly as those of a photograph do."""
    canvas = np.full((height, width, 3), 128.0)
    for cells in (3, 12, 48, 200):
        coarse = noise.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        canvas += (np.asarray(layer, np.float64) - 128.0) / 3.0
    canvas += noise.normal(0.0, 4.0, canvas.shape)
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8))


def _encoded(scene: Image.Image, name: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    scene.save(buffer, name, **options)
    return buffer.getvalue()
