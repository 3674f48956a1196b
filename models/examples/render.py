"""Renders golf_ball.jpg, the picture of the first request: a golf ball in grass, nobody's photo.

    python models/examples/render.py [OUT.jpg]

The same numpy and Pillow give the same pixels: everything random comes from one seed.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT, OVERSAMPLING = 500, 375, 2
SEED = 7
QUALITY = 95
DIMPLES, DIMPLE_ANGLE, DIMPLE_DEPTH = 336, 0.094, 0.5
BALL = (258.0, 196.0, 118.0)
"""Centre and radius in pixels of the finished picture."""
STRAW_SHARE = 0.07
SUN = np.array([-0.52, -0.66, 0.54])
"""Towards the light; x to the right, y down, z to the camera."""

Floats = NDArray[np.float64]
Rng = np.random.Generator


def render(seed: int = SEED) -> Image.Image:
    """The finished picture."""
    rng = np.random.default_rng(seed)
    lawn = _in_focus(_lawn(rng, blades=26_000), sharp_row=0.78)
    scene = _shaded(lawn)
    ball, mask = _ball(rng)
    scene.paste(ball, (0, 0), mask)
    _grass_in_front(scene, rng)
    small = scene.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return _photographed(small, rng)


# ---- the lawn


def _lawn(rng: Rng, *, blades: int) -> Image.Image:
    size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
    canvas = Image.new("RGB", size, (46, 78, 24))
    draw = ImageDraw.Draw(canvas)
    for depth in np.sort(rng.uniform(0.0, 1.0, blades) ** 0.8):
        root = (rng.uniform(-0.02, 1.02) * size[0], (-0.05 + 1.2 * depth) * size[1])
        _blade(draw, rng, root=root, scale=0.35 + depth, light=1.0)
    return canvas


def _blade(
    draw: ImageDraw.ImageDraw, rng: Rng, *, root: tuple[float, float], scale: float, light: float
) -> None:
    length = OVERSAMPLING * scale * rng.uniform(14, 42)
    lean = rng.normal(0.0, 0.55)
    steps = np.linspace(0.0, 1.0, 6)
    xs = root[0] + length * (lean * steps + rng.normal(0.0, 0.25) * steps**2)
    ys = root[1] - length * steps * np.cos(min(abs(lean), 1.2) * 0.8)
    half_width = OVERSAMPLING * scale * rng.uniform(0.7, 1.7) * (1.02 - steps)
    left = list(zip(xs - half_width, ys, strict=True))
    right = list(zip(xs + half_width, ys, strict=True))
    draw.polygon(left + right[::-1], fill=_green(rng, light))


def _green(rng: Rng, light: float) -> tuple[int, int, int]:
    dry = rng.uniform() < STRAW_SHARE
    base = np.array([150.0, 142.0, 74.0]) if dry else np.array([104.0, 152.0, 50.0])
    shade = light * rng.uniform(0.35, 1.25)
    red, green, blue = np.clip(base * shade + rng.normal(0.0, 7.0, 3), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def _in_focus(picture: Image.Image, *, sharp_row: float) -> Image.Image:
    """Blur that grows with the distance from the row in focus, like a short lens wide open."""
    pixels = np.asarray(picture, dtype=np.float64)
    rows = np.linspace(0.0, 1.0, pixels.shape[0])
    wanted = OVERSAMPLING * 9.0 * np.abs(rows - sharp_row) ** 1.3
    radii = OVERSAMPLING * np.array([0.0, 1.0, 2.0, 4.0, 7.0])
    blurred = [
        np.asarray(picture.filter(ImageFilter.GaussianBlur(float(radius))), dtype=np.float64)
        for radius in radii
    ]
    place = np.interp(wanted, radii, np.arange(len(radii)))
    weights = np.clip(1.0 - np.abs(place[None] - np.arange(len(radii))[:, None]), 0.0, 1.0)
    return _image(np.einsum("kr,krwc->rwc", weights, np.stack(blurred)))


def _shaded(lawn: Image.Image) -> Image.Image:
    """The ball's shadow falls away from the sun; close to the ball the lawn is darkest."""
    ys, xs = _grid()
    x, y, radius = BALL
    cast = _blob(
        (xs - x - 0.85 * radius) / (1.25 * radius), (ys - y - 0.98 * radius) / (0.36 * radius)
    )
    contact = _blob(
        (xs - x - 0.1 * radius) / (0.85 * radius), (ys - y - 0.96 * radius) / (0.26 * radius)
    )
    light = (1.0 - 0.68 * cast) * (1.0 - 0.6 * contact)
    tint = np.stack([light, light, 0.15 + 0.85 * light], axis=-1)
    return _image(np.asarray(lawn, dtype=np.float64) * tint)


def _blob(u: Floats, v: Floats) -> Floats:
    return np.exp(-((u**2 + v**2) ** 1.5))


def _grass_in_front(scene: Image.Image, rng: Rng) -> None:
    """Blades that hide the foot of the ball, so that it lies in the grass and not on it."""
    draw = ImageDraw.Draw(scene)
    x, y, radius = (OVERSAMPLING * value for value in BALL)
    for offset in np.sort(rng.uniform(0.0, 1.0, 420)):
        across = rng.uniform(-1.25, 1.25)
        foot = y + radius * (0.86 + 0.34 * (1.0 - min(1.0, abs(across)) ** 2) + 0.16 * offset)
        light = 0.5 + 0.45 * offset - 0.3 * (across > 0)
        _blade(draw, rng, root=(x + across * radius, foot), scale=0.85, light=light)


# ---- the ball


def _ball(rng: Rng) -> tuple[Image.Image, Image.Image]:
    """The lit ball on a full canvas and the mask of where it is."""
    ys, xs = _grid()
    x, y, radius = BALL
    u, v = (xs - x) / radius, (ys - y) / radius
    off_axis = u**2 + v**2
    normal = np.stack([u, v, np.sqrt(np.clip(1.0 - off_axis, 0.0, 1.0))], axis=-1)
    inside = off_axis < 1.0
    colour = np.zeros(normal.shape)
    colour[inside] = _lit(normal[inside], _dimpled(normal[inside], _dimple_centres(rng)))
    edge = np.clip((1.0 - np.sqrt(off_axis)) * radius * 1.1 + 0.5, 0.0, 1.0)
    mask = Image.fromarray((edge * 255).astype(np.uint8))
    return _image(colour), mask


def _dimple_centres(rng: Rng) -> Floats:
    """Points on the sphere that keep their distance, as on a real ball."""
    steps = np.arange(DIMPLES) + 0.5
    polar, turn = np.arccos(1.0 - 2.0 * steps / DIMPLES), np.pi * (1.0 + 5.0**0.5) * steps
    points = np.stack(
        [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], axis=1
    )
    points += rng.normal(0.0, 0.01, points.shape)
    for _ in range(150):
        apart = points[:, None] - points[None]
        distance = np.linalg.norm(apart, axis=2) + np.eye(DIMPLES)
        points += 0.0004 * (apart / distance[..., None] ** 4).sum(axis=1) / DIMPLES**0.5
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(points @ turned)


def _dimpled(normal: Floats, centres: Floats) -> tuple[Floats, Floats]:
    """Normals bent towards the middle of the nearest dimple, and how deep each point lies."""
    cosine = normal @ centres.T
    nearest = centres[np.argmax(cosine, axis=1)]
    angle = np.arccos(np.clip(cosine.max(axis=1), -1.0, 1.0)) / DIMPLE_ANGLE
    towards = nearest - (nearest * normal).sum(axis=1, keepdims=True) * normal
    towards /= np.linalg.norm(towards, axis=1, keepdims=True) + 1e-9
    slope = DIMPLE_DEPTH * angle * np.clip((1.06 - angle) / 0.16, 0.0, 1.0)
    bent = normal + slope[:, None] * towards
    depth = np.clip(1.0 - angle**2, 0.0, 1.0)
    return bent / np.linalg.norm(bent, axis=1, keepdims=True), depth


def _lit(smooth: Floats, surface: tuple[Floats, Floats]) -> Floats:
    """Sun, sky, light thrown back by the grass, and the gloss of the lacquer."""
    normal, depth = surface
    sun = SUN / np.linalg.norm(SUN)
    soft_edge = np.clip((smooth @ sun + 0.12) / 0.35, 0.0, 1.0)
    direct = np.clip(normal @ sun, 0.0, 1.0) * soft_edge
    sky = np.clip(0.5 - 0.5 * normal[:, 1], 0.0, 1.0)
    grass = np.clip(0.5 + 0.5 * normal[:, 1], 0.0, 1.0) ** 1.5
    occlusion = 1.0 - 0.12 * depth - 0.45 * np.clip(smooth[:, 1] - 0.35, 0.0, 1.0)
    halfway = sun + np.array([0.0, 0.0, 1.0])
    gloss = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0.0, 1.0) ** 60
    light = (
        direct[:, None] * np.array([0.74, 0.72, 0.66])
        + sky[:, None] * np.array([0.28, 0.31, 0.36])
        + grass[:, None] * np.array([0.15, 0.19, 0.09])
    ) * occlusion[:, None]
    shine = 0.32 * gloss[:, None]
    return np.asarray(255.0 * (1.0 - np.exp(-2.3 * light)) * 1.04 + 255.0 * shine)


# ---- the camera


def _photographed(picture: Image.Image, rng: Rng) -> Image.Image:
    """Vignette and sensor noise; without them no photo looks like one."""
    pixels = np.asarray(picture, dtype=np.float64)
    ys, xs = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    vignette = 1.0 - 0.16 * (xs**2 + ys**2)
    noise = rng.normal(0.0, 2.2, (HEIGHT, WIDTH, 1)) + rng.normal(0.0, 1.0, pixels.shape)
    return _image(pixels * vignette[..., None] + noise)


def _grid() -> tuple[Floats, Floats]:
    """Row and column of every oversampled pixel, in units of the finished picture."""
    rows, columns = np.mgrid[: HEIGHT * OVERSAMPLING, : WIDTH * OVERSAMPLING]
    return (rows + 0.5) / OVERSAMPLING, (columns + 0.5) / OVERSAMPLING


def _image(pixels: Floats) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    out = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name("golf_ball.jpg")
    render().save(out, quality=QUALITY, subsampling="4:2:0", optimize=True)
