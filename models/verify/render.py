"""Render the verification pictures: shapes, gradients, textures and noise in natural colours.

    python models/verify/render.py [TARGET.npz]

The same bytes come out every time; the target is models/verify/pictures.npz where none is named.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 20240416
COUNT = 32
SIDE = 48
TARGET = Path(__file__).with_name("pictures.npz")

Image = NDArray[np.float64]
"""Height x width x RGB around [0, 1]."""


def texture(rng: np.random.Generator, roughness: float) -> NDArray[np.float64]:
    """Noise whose spectrum falls with frequency, as in photographs; zero mean, unit spread."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.standard_normal((SIDE, SIDE))) / frequency**roughness
    spectrum[0, 0] = 0
    plane = np.fft.ifft2(spectrum).real
    return np.asarray(plane / plane.std())


def colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour whose brightness varies most, then blue against yellow, then green."""
    grey, warm, green = rng.normal(0, (0.24, 0.16, 0.08))
    return np.array([0.47 + grey + warm, 0.45 + grey + green, 0.41 + grey - warm])


def ground(rng: np.random.Generator) -> Image:
    """A gradient between two colours with a texture shared by the channels."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    angle = rng.uniform(0, 2 * np.pi)
    along = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.5
    picture = colour(rng) * (1 - along[..., None]) + colour(rng) * along[..., None]
    rough = texture(rng, rng.uniform(0.7, 1.6))[..., None]
    return np.asarray(picture + rough * rng.uniform(0.03, 0.16) * rng.uniform(0.6, 1.2, 3))


def shape(rng: np.random.Generator) -> NDArray[np.float64]:
    """Soft-edged cover in [0, 1]: an ellipse, a rectangle, stripes or a checkerboard."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    centre, size = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.38, 2)
    angle = rng.uniform(0, np.pi)
    u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    v = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    box = 1 - np.maximum(abs(u) / size[0], abs(v) / size[1])
    waves = np.sin(u * rng.uniform(15, 60))
    match rng.integers(4):
        case 0:
            inside = 1 - np.hypot(u / size[0], v / size[1])
        case 1:
            inside = box
        case 2:
            inside = np.minimum(box, 0.3 * waves)
        case _:
            inside = np.minimum(box, 0.3 * waves * np.sin(v * rng.uniform(15, 60)))
    return np.asarray(np.clip(inside * rng.uniform(4, 20), 0, 1))


def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Some shapes, each lit and textured, over a ground, with a little sensor noise."""
    scene = ground(rng)
    for _ in range(rng.integers(1, 6)):
        cover = shape(rng)[..., None]
        scene = scene * (1 - cover) + ground(rng) * cover
    scene = scene + rng.normal(0, rng.uniform(0.0, 0.04), scene.shape)
    return np.asarray(np.clip(np.rint(scene * 255), 0, 255), np.uint8)


def main() -> None:
    rng = np.random.default_rng(SEED)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    np.savez_compressed(target, pictures=np.stack([picture(rng) for _ in range(COUNT)]))


if __name__ == "__main__":
    main()
