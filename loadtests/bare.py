"""Decode + inference without any server: the floor that every server is measured against."""

from dataclasses import dataclass
from pathlib import Path

from mnv4serve import artifacts
from mnv4serve.artifacts import Target
from mnv4serve.backends import Backend, open_backend
from mnv4serve.catalog import Zoo, load_catalog
from mnv4serve.config import load_config
from mnv4serve.domain import BackendName, Precision, Prediction
from mnv4serve.images import decode, read_header
from mnv4serve.predictions import top_k

MAX_PIXELS = 50_000_000


@dataclass(frozen=True, slots=True)
class Bare:
    """One loaded artifact with the decoding it needs."""

    zoo: Zoo
    resolution: int
    backend: Backend
    temperature: float = 1.0
    """That the service divides this variant's logits by."""

    def classify(self, image: bytes) -> tuple[Prediction, ...]:
        """Bytes to labels in the calling thread."""
        pixels = decode(
            image,
            read_header(image, max_pixels=MAX_PIXELS),
            resolution=self.resolution,
            preprocessing=self.zoo.preprocessing,
        )
        logits = self.backend.infer(pixels[None])[0]
        labels = [label.name for label in self.zoo.labels]
        return top_k(logits, labels, 5, temperature=self.temperature)


def open_bare(arm_id: str, *, threads: int, state_dir: Path | None = None) -> Bare:
    """The artifact of an arm as the service names it, opened for one caller."""
    variant, backend, precision, device = arm_id.split("/")
    target = Target(variant, BackendName(backend), Precision(precision))
    _, zoo = load_catalog().zoo()
    folder = state_dir or load_config(file=None, flags={}).state_dir
    artifact = artifacts.find(folder, zoo, target)
    if artifact is None:
        raise SystemExit(f"{target} is not built: run mnv4serve build {variant}")
    opened = open_backend(artifact, device=device, slots=1, threads=threads)
    return Bare(zoo, artifact.resolution, opened, zoo.variant(variant).temperature)
