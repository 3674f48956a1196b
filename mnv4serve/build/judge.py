"""Runs built artifacts on a data set's pictures, as served: dev to choose on, val to report.

A reading of held-out pictures is logged, kept and never repeated by accident.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnv4serve.artifacts import Manifest, Target, folder_of, read_manifest
from mnv4serve.backends import Artifact, open_backend
from mnv4serve.build import build_artifact
from mnv4serve.build.confidence import calibration_error
from mnv4serve.build.verify import device_for
from mnv4serve.catalog import Catalog, Label, Preprocessing
from mnv4serve.errors import CatalogError
from mnv4serve.evaluation import Read, Score, evaluate, labelled_files, reader
from mnv4serve.readings import Reading, append_reading, encode_marks, load_readings

SLOTS = 2
DEV_SHARE = 10

Files = Sequence[tuple[Path, int]]
Pixels = dict[Path, NDArray[np.uint8] | None]
Report = Callable[[str], None]
"""Told each thing that was done, in one line."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders of class folders that a release reads."""

    train: Path
    """Its dev split decides what is released, its other pictures give the ranges."""
    judged: Path | None
    """Its pictures give the certified accuracies; the dev split does where there is none."""
    split: str
    """What the catalog calls the judged pictures."""

    def dev(self, labels: Sequence[Label]) -> Files:
        files = [file for file in labelled_files(self.train, labels) if is_dev(file[0])]
        if not files:
            raise CatalogError(f"{self.train} has too few pictures: none falls into the dev split")
        return files

    def held_out(self, labels: Sequence[Label]) -> Files:
        return self.dev(labels) if self.judged is None else labelled_files(self.judged, labels)


def is_dev(path: Path) -> bool:
    """Whether a file name falls into the tenth, by its hash, that is never trained on."""
    return int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % DEV_SHARE == 0


@dataclass(frozen=True, slots=True)
class Judge:
    """Measures the artifacts of one zoo."""

    zoo: str
    sources: Sources
    state_dir: Path
    report: Report
    again: str | None = None
    """Why held-out pictures may be read once more by artifacts that have read them."""
    _dev: dict[str, Score] = field(default_factory=dict)
    _decoded: dict[tuple[int, Preprocessing], Pixels] = field(default_factory=dict)
    """The pictures as the variant that is being judged wants them."""
    _left_out: list[tuple[str, ...]] = field(default_factory=list)
    """Unreadable ones that were told of: they are the same for every artifact."""

    def on_dev(self, catalog: Catalog, target: Target) -> Score:
        """What an artifact answers to the pictures that choices are made on."""
        artifact = self._build(catalog, target)
        if artifact.digest not in self._dev:
            files = self.sources.dev(catalog.zoos[self.zoo].labels)
            self._dev[artifact.digest] = self._score(catalog, artifact, files)
        return self._dev[artifact.digest]

    def on_strangers(self, catalog: Catalog, target: Target, folder: Path) -> Score:
        """What an artifact answers to pictures of none of its labels; theirs are left open."""
        files = [(path, 0) for path in sorted(folder.iterdir()) if path.is_file()]
        return self._score(catalog, self._build(catalog, target), files)

    def on_held_out(self, catalog: Catalog, target: Target, temperature: float) -> Reading:
        """An artifact's one reading: made and logged now, or taken from the log.

        Raises CatalogError where an earlier one kept too little, unless there is a reason to read
        again.
        """
        artifact = self._build(catalog, target)
        known = load_readings(catalog.root, self.zoo).get(artifact.digest)
        if known is not None and self.again is None:
            if known.marks is None:
                raise CatalogError(
                    f"{target} was read on {known.date} and its answers were not kept; reading it "
                    "again needs --again with the reason"
                )
            self.report(f"{target}: read on {known.date} already, {known.right} of {known.n} right")
            return known
        score = self._score(catalog, artifact, self.sources.held_out(catalog.zoos[self.zoo].labels))
        reading = self._reading(artifact, score, temperature, again=self.again if known else None)
        append_reading(catalog.root, self.zoo, reading)
        self.report(f"{target}: {reading.right} of {reading.n} right, {score.accuracy:.4f}")
        return reading

    def deviation(self, catalog: Catalog, target: Target) -> float:
        """How far an artifact was from its reference when it was accepted."""
        return float(f"{self._manifest(self._build(catalog, target)).deviation:.3g}")

    def _build(self, catalog: Catalog, target: Target) -> Artifact:
        return build_artifact(catalog, catalog.zoos[self.zoo], target, state_dir=self.state_dir)

    def _score(self, catalog: Catalog, artifact: Artifact, files: Files) -> Score:
        preprocessing = catalog.zoos[self.zoo].preprocessing_of(artifact.variant)
        device = device_for(artifact.backend)
        with closing(open_backend(artifact, device=device, slots=SLOTS, threads=1)) as backend:
            score = evaluate(
                backend,
                files,
                read=self._read(artifact.resolution, preprocessing),
                slots=SLOTS,
            )
        if (left_out := score.unreadable) and left_out not in self._left_out:
            self._left_out.append(left_out)
            self.report(f"left out {len(left_out)} unreadable pictures: {', '.join(left_out)}")
        return score

    def _read(self, resolution: int, preprocessing: Preprocessing) -> Read:
        """Keeps the pixels of one variant, since all its artifacts want them."""
        if (resolution, preprocessing) not in self._decoded:
            self._decoded.clear()
        kept = self._decoded.setdefault((resolution, preprocessing), {})
        read = reader(resolution, preprocessing)

        def remembered(path: Path) -> NDArray[np.uint8] | None:
            if path not in kept:
                kept[path] = read(path)
            return kept[path]

        return remembered

    def _manifest(self, artifact: Artifact) -> Manifest:
        manifest = read_manifest(folder_of(self.state_dir) / artifact.digest)
        assert manifest is not None
        return manifest

    def _reading(
        self, artifact: Artifact, score: Score, temperature: float, *, again: str | None
    ) -> Reading:
        errors = [calibration_error(score.logits, score.labels, t) for t in (1.0, temperature)]
        counts = np.bincount(score.labels, minlength=artifact.n_labels)
        right = np.bincount(score.labels[score.correct], minlength=artifact.n_labels)
        runtime = str(self._manifest(artifact).ingredients["runtime"])
        mask = sum(1 << at for at, mark in enumerate(score.correct.tolist()) if mark)
        return Reading(
            artifact=artifact.digest,
            variant=artifact.variant,
            backend=artifact.backend,
            precision=artifact.precision,
            runtime=runtime,
            date=datetime.now(UTC).date().isoformat(),
            split=self.sources.split,
            again=again,
            n=score.n,
            right=score.right,
            pictures=hashlib.sha256("\n".join(score.names).encode()).hexdigest()[:16],
            marks=encode_marks(mask, score.n),
            by_label=tuple(zip(right.tolist(), counts.tolist(), strict=True)),
            calibration_error=(round(errors[0], 4), round(errors[1], 4)),
        )
