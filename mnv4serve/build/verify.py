"""Proof that an artifact computes what its reference computes, on pictures made for it."""

import io
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.artifacts import Target, artifact_at
from mnv4serve.backends import Backend, open_backend, probe
from mnv4serve.catalog import Catalog, File, Preprocessing, Variant, Zoo
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch, CatalogError

if TYPE_CHECKING:
    from mnv4serve.arch.model import MobileNetV4

DEVICE = "cpu"
MARGIN = 2.0
"""How many times the certified deviation another machine may show."""
FLOOR = {
    Precision.FP32: 1e-4,
    Precision.BF16: 0.01,
    Precision.FP16: 2e-3,
    Precision.INT8: 0.02,
}
"""Deviations so small that rounding of another processor explains them."""
UNCERTIFIED = {
    Precision.FP32: 1e-3,
    Precision.BF16: 0.05,
    Precision.FP16: 0.01,
    Precision.INT8: 0.25,
}
"""Limits where nobody measured the deviation of an artifact."""
BATCHES = (1, 2, 5, 8, 16)
"""Sizes of the batches in which the pictures are run, over and over."""
SUBPIXEL = 256


@dataclass(frozen=True, slots=True)
class Evidence:
    """The verification pictures at one resolution and what the reference says about them."""

    pixels: NDArray[np.uint8]
    logits: NDArray[np.float32]


def evidence(catalog: Catalog, zoo: Zoo, variant: Variant) -> Evidence:
    """The shipped pictures and reference logits of a variant."""
    pixels = pictures(catalog, zoo, variant.resolution)
    logits = _array(catalog, variant.reference, "logits")
    if logits.shape != (len(pixels), len(zoo.labels)):
        raise CatalogError(f"{variant.reference.path} does not fit the pictures and labels")
    return Evidence(pixels, logits)


def pictures(catalog: Catalog, zoo: Zoo, resolution: int) -> NDArray[np.uint8]:
    """The shipped verification pictures of a zoo, enlarged to a resolution."""
    return enlarge(_array(catalog, zoo.pictures, "pictures"), resolution)


def enlarge(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bilinear in whole numbers, so that every machine gets the same bytes."""
    original = pixels.shape[1]
    centre = (2 * np.arange(side) + 1) * original * SUBPIXEL // (2 * side) - SUBPIXEL // 2
    position = np.clip(centre, 0, (original - 1) * SUBPIXEL)
    low, share = position // SUBPIXEL, position % SUBPIXEL
    high = np.minimum(low + 1, original - 1)
    wide = pixels.astype(np.int64)
    rows = wide[:, low] * (SUBPIXEL - share[:, None, None]) + wide[:, high] * share[:, None, None]
    both = rows[:, :, low] * (SUBPIXEL - share[:, None]) + rows[:, :, high] * share[:, None]
    return np.ascontiguousarray((both + SUBPIXEL**2 // 2) // SUBPIXEL**2, np.uint8)


def reference_logits(
    model: "MobileNetV4", pixels: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """What the reference network answers to uint8 RGB pictures [N, H, W, 3]."""
    import torch  # noqa: PLC0415  # what only checks an artifact does without

    mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
    std = torch.tensor(preprocessing.std).view(3, 1, 1)
    images = (torch.tensor(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        logits: NDArray[np.float32] = model.eval()(images).numpy()
    return logits


def answers(backend: Backend, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A backend's logits, computed in batches of different sizes."""
    parts, start, turn = [], 0, 0
    while start < len(pixels):
        batch = pixels[start : start + BATCHES[turn % len(BATCHES)]]
        parts.append(backend.infer(batch).copy())
        start, turn = start + len(batch), turn + 1
    return np.concatenate(parts)


def deviation(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """How far logits are from the reference's: 0 is equal, 1 is as wrong as ignoring the picture.

    The differences per picture, relative to how far the reference itself moves from its usual
    answer, averaged. Medians and averages, because single pictures can have enormous logits.
    Infinite where the logits do not fit.
    """
    if logits.shape != reference.shape or not np.isfinite(logits).all():
        return float("inf")
    exact = reference.astype(np.float64)
    movement = np.linalg.norm(exact - np.median(exact, axis=0), axis=1)
    usual = max(float(np.median(movement)), float(np.finfo(np.float32).tiny))
    differences = np.linalg.norm(logits - exact, axis=1)
    return float(np.mean(differences / np.maximum(movement, usual)))


def limit(variant: Variant, target: Target) -> float:
    """The largest deviation that an artifact may show."""
    certificate = variant.certificate(target.backend, target.precision)
    if certificate is None:
        others = variant.network is not None and target.precision is Precision.FP32
        return UNCERTIFIED[Precision.FP16 if others else target.precision]  # theirs may hold halves
    return max(MARGIN * certificate.deviation, FLOOR[target.precision])


def check(backend: Backend, target: Target, proof: Evidence, *, allowed: float) -> float:
    """The deviation of a loaded artifact; raises ArtifactMismatch where it is too large."""
    try:
        logits = answers(backend, proof.pixels)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactMismatch(f"{target} does not run: {reason}") from error
    found = deviation(logits, proof.logits)
    if not found <= allowed:
        raise ArtifactMismatch(
            f"{target} deviates from its reference by {found:.3g} where {allowed:.3g} is allowed: "
            "the artifact is refused"
        )
    return found


def prove(catalog: Catalog, zoo: Zoo, target: Target, path: Path) -> float:
    """The deviation of a target's file, loaded as serving does; raises as `check` does.

    What an Edge TPU gets is run by LiteRT on the processor, which computes the same integers.
    """
    if target.backend is BackendName.EDGETPU:
        target = replace(target, backend=BackendName.LITERT)
    variant = zoo.variant(target.variant)
    proof, allowed = evidence(catalog, zoo, variant), limit(variant, target)
    artifact = artifact_at(path, zoo, target)
    device = device_for(target.backend)
    with closing(open_backend(artifact, device=device, slots=1, threads=1)) as backend:
        return check(backend, target, proof, allowed=allowed)


def device_for(backend: BackendName) -> str:
    """Where a backend's artifacts are proven and judged: the first device that it finds."""
    return (*probe(backend).devices, DEVICE)[0]


def _array(catalog: Catalog, file: File, key: str) -> NDArray[Any]:
    try:
        with np.load(io.BytesIO(catalog.read(file)), allow_pickle=False) as archive:
            array: NDArray[Any] = archive[key]
    except (OSError, ValueError, KeyError) as error:
        raise CatalogError(f"{file.path} holds no array {key!r}: restore it") from error
    return array
