"""From trained weights to a release: ranges, reference logits, artifacts and what they achieve.

Everything that models/catalog.toml says about a variant is computed here, so that it can be
computed again.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnv4serve.artifacts import Target, available_targets, folder_of, read_manifest
from mnv4serve.backends import Artifact, open_backend, probe
from mnv4serve.build import build_artifact
from mnv4serve.build.assemble import DEVICE, reference_model
from mnv4serve.build.catalog_file import save_catalog, with_variant
from mnv4serve.build.graph import capture
from mnv4serve.build.ranges import calibrate, format_ranges
from mnv4serve.build.verify import pictures, reference_logits
from mnv4serve.catalog import Catalog, Certified, Checkpoint, File, Preprocessing, Variant, Zoo
from mnv4serve.domain import BackendName
from mnv4serve.errors import CatalogError, StorageError
from mnv4serve.evaluation import evaluate, labelled_files
from mnv4serve.images import decode, read_header

BACKENDS = (BackendName.CPU, BackendName.ONNX)
CALIBRATION_PICTURES = 512
CALIBRATION_BATCH = 8
DEV_SHARE = 10
SLOTS = 2

Report = Callable[[str], None]
"""Told each thing that was done, in one line."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders of class folders that a release reads."""

    train: Path
    """Its pictures outside the dev split give the ranges."""
    judged: Path
    """Its pictures give the certified accuracies."""
    split: str
    """What the catalog calls the judged pictures."""


@dataclass(frozen=True, slots=True)
class Releaser:
    """Releases checkpoints of one zoo into the catalog they belong to."""

    zoo: str
    sources: Sources
    state_dir: Path
    report: Report

    def release(
        self, catalog: Catalog, checkpoint: Checkpoint, resolutions: Sequence[int]
    ) -> Catalog:
        """Write a checkpoint's variants into models/ and give back the catalog with them.

        Existing entries of the same names are replaced; an interrupted release can be repeated.
        """
        for resolution in resolutions:
            variant = self._variant(catalog, checkpoint, resolution)
            catalog = with_variant(catalog, self.zoo, checkpoint, variant)
            variant = self._with_reference(catalog, variant)
            variant = self._with_ranges(catalog, variant)
            catalog = with_variant(catalog, self.zoo, checkpoint, variant)
            certified = tuple(self._certify(catalog, target) for target in _targets(variant))
            variant = variant.model_copy(update={"certified": certified})
            catalog = with_variant(catalog, self.zoo, checkpoint, variant)
            save_catalog(catalog)
        return catalog

    def _variant(self, catalog: Catalog, checkpoint: Checkpoint, resolution: int) -> Variant:
        name = f"{checkpoint.name}@{resolution}"
        path = f"weights/{self.zoo}/{name}.bn.safetensors"
        batch_norm = describe(catalog, path)
        return Variant(
            name=name,
            checkpoint=checkpoint.name,
            resolution=resolution,
            batch_norm=batch_norm,
            reference=batch_norm,  # until there is one
        )

    def _with_reference(self, catalog: Catalog, variant: Variant) -> Variant:
        _, zoo = catalog.zoo(self.zoo)
        model = reference_model(catalog, zoo, variant)
        pixels = pictures(catalog, zoo, variant.resolution)
        packed = io.BytesIO()
        np.savez(packed, logits=reference_logits(model, pixels, zoo.preprocessing))
        path = f"verify/{self.zoo}/{variant.name}.npz"
        file = write_file(catalog, path, packed.getvalue())
        return variant.model_copy(update={"reference": file})

    def _with_ranges(self, catalog: Catalog, variant: Variant) -> Variant:
        _, zoo = catalog.zoo(self.zoo)
        graph = capture(reference_model(catalog, zoo, variant), variant.resolution)
        files = [path for path, _ in labelled_files(self.sources.train, zoo.labels)]
        batches = _decoded(calibration_files(files), variant.resolution, zoo.preprocessing)
        ranges = calibrate(graph, zoo.preprocessing, variant.resolution, batches)
        path = f"weights/{self.zoo}/{variant.name}.ranges.json"
        file = write_file(catalog, path, format_ranges(ranges))
        return variant.model_copy(update={"ranges": file})

    def _certify(self, catalog: Catalog, target: Target) -> Certified:
        _, zoo = catalog.zoo(self.zoo)
        artifact = build_artifact(catalog, zoo, target, state_dir=self.state_dir)
        manifest = read_manifest(folder_of(self.state_dir) / artifact.digest)
        assert manifest is not None
        accuracy, n = self._judge(zoo, artifact)
        self.report(f"{target}: {accuracy:.4f} of {n}, deviation {manifest.deviation:.2g}")
        return Certified(
            backend=target.backend,
            precision=target.precision,
            accuracy=round(accuracy, 6),
            n=n,
            split=self.sources.split,
            deviation=float(f"{manifest.deviation:.3g}"),
        )

    def _judge(self, zoo: Zoo, artifact: Artifact) -> tuple[float, int]:
        files = labelled_files(self.sources.judged, zoo.labels)
        with closing(open_backend(artifact, device=DEVICE, slots=SLOTS, threads=1)) as backend:
            score = evaluate(
                backend,
                files,
                resolution=artifact.resolution,
                preprocessing=zoo.preprocessing,
                slots=SLOTS,
            )
        return score.accuracy, score.n


def describe(catalog: Catalog, path: str) -> File:
    """The catalog entry of a file below models/."""
    try:
        content = (catalog.root / path).read_bytes()
    except OSError as error:
        raise CatalogError(f"{catalog.root / path} is missing: export the weights first") from error
    return File(path=path, sha256=hashlib.sha256(content).hexdigest())


def write_file(catalog: Catalog, path: str, content: bytes) -> File:
    """Put a file below models/ and give back its catalog entry."""
    target = catalog.root / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}") from error
    return describe(catalog, path)


def calibration_files(files: Sequence[Path]) -> list[Path]:
    """Some hundred training pictures outside the dev split, the same ones on every machine."""
    hashes = {path: int(hashlib.sha256(path.name.encode()).hexdigest(), 16) for path in files}
    plain = [path for path in files if hashes[path] % DEV_SHARE]
    return sorted(plain, key=lambda path: hashes[path])[:CALIBRATION_PICTURES]


def _decoded(
    files: Sequence[Path], resolution: int, preprocessing: Preprocessing
) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(files), CALIBRATION_BATCH):
        batch = [path.read_bytes() for path in files[start : start + CALIBRATION_BATCH]]
        yield np.stack(
            [
                decode(
                    image,
                    read_header(image, max_pixels=1 << 62),
                    resolution=resolution,
                    preprocessing=preprocessing,
                )
                for image in batch
            ]
        )


def _targets(variant: Variant) -> tuple[Target, ...]:
    return available_targets(variant, [probe(name) for name in BACKENDS])
