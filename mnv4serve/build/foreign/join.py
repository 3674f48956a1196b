"""Adds somebody else's classifier to a zoo of the user's own, or begins one with it."""

import hashlib
import io
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mnv4serve.build import own
from mnv4serve.build.foreign.child import ask
from mnv4serve.build.foreign.labels import agree, without_background
from mnv4serve.build.foreign.score import Files, Mark, decide, spread
from mnv4serve.build.foreign.values import Proposal, Way, Wishes
from mnv4serve.build.verify import pictures
from mnv4serve.catalog import (
    CATALOG_FILE,
    Catalog,
    Checkpoint,
    File,
    Label,
    Variant,
    Zoo,
    load_catalog,
    own_zoo,
)
from mnv4serve.errors import CatalogError
from mnv4serve.evaluation import labelled_files

SAME_ANSWER = (
    "it answers the same to every picture: it wants them prepared otherwise (--range, --mean, "
    "--std), or was never trained"
)
THIRD_PARTY = "third-party"
"""In the place of an architecture of ours."""
SUFFIXES = (".onnx", ".tflite")
NO_FILE = File(path="", sha256="0" * 64)
LONG_S = 3600.0
"""For trying all ways on all pictures, which shows how far it is."""
_FRAMES = (("squash", 1.0), ("shortest", 1.0))
"""Beside the usual frame of a picture."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")

Report = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Joined:
    """A catalog with its new variant."""

    catalog: Catalog
    variant: Variant
    before: bytes | None
    """The catalog file as it was; None where the zoo is new."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A file that is to join a zoo, with what the user said about it."""

    path: Path
    zoos: Path
    zoo: str
    shipped: Catalog
    labels: tuple[Label, ...] | None
    """None where the zoo is there already and has them."""
    wishes: Wishes
    report: Report
    progress: Progress

    def join(self, *, name: str | None, folder: Path | None, command: str) -> Joined:
        """Look at the file, try it, and write it into the zoo; its artifacts are built later.

        Raises CatalogError in one sentence where it cannot be served as a classifier of these
        labels; the zoo is as it was then.
        """
        if self.path.suffix not in SUFFIXES:
            raise CatalogError(
                f"{self.path} is neither .onnx nor .tflite: export the network to one of them first"
            )
        if not self.path.is_file():
            raise CatalogError(f"{self.path} is not there")
        there = self._existing()
        labels = self._labels(there)
        files = labelled_files(folder, labels) if folder else []
        with tempfile.TemporaryDirectory() as scratch:
            whole = Path(scratch) / f"network{self.path.suffix}"
            found = self._proposal(labels, whole)
            found = self._judged(found, labels, files, whole)
            for reason in found.reasons:
                self.report(reason)
            return self._write(there, labels, found, whole, name=name, command=command)

    def _existing(self) -> Zoo | None:
        if self.zoo in self.shipped.zoos:
            raise CatalogError(
                f"{self.zoo} is a zoo that comes with mnv4serve: choose another name, or pull or "
                "train one of your own to join"
            )
        if not own.NAME.fullmatch(self.zoo):
            raise CatalogError(
                f"{self.zoo!r} is no name for a zoo: take up to 40 small letters, digits, - and _"
            )
        root = own_zoo(self.zoos, self.zoo)
        return load_catalog(root).zoo()[1] if (root / CATALOG_FILE).exists() else None

    def _labels(self, there: Zoo | None) -> tuple[Label, ...]:
        if self.labels is None:
            if there is None:
                raise CatalogError(f"there is no zoo {self.zoo} yet: name its labels with --labels")
            return there.labels
        labels = without_background(self.labels)
        reason = agree(labels, there.labels) if there else ""
        if reason:
            raise CatalogError(
                f"{self.path.name} cannot join {self.zoo}: {reason}; begin another one with --zoo"
            )
        return there.labels if there else labels

    def _proposal(self, labels: Sequence[Label], whole: Path) -> Proposal:
        self.progress("looking at the file", 0, 1)
        task = {
            "task": "propose",
            "path": str(self.path),
            "whole": str(whole),
            "wishes": self.wishes.model_dump(mode="json"),
            "n_labels": len(labels),
        }
        try:
            return Proposal.model_validate(ask(task, subject=self.path))
        except CatalogError as error:
            said = str(error)
            raise CatalogError(
                said if self.path.name in said else f"{self.path}: {said}"
            ) from error

    def _judged(
        self, found: Proposal, labels: Sequence[Label], files: Files, whole: Path
    ) -> Proposal:
        """The proposal with the way that labels the user's pictures best."""
        if not files:
            return found
        tried = spread(files)
        found = self._decided(found, [found.way, *found.rivals], labels, tried, whole)
        frames = self._framed(found.way)
        return self._decided(found, frames, labels, tried, whole) if len(frames) > 1 else found

    def _decided(
        self,
        found: Proposal,
        ways: list[Way],
        labels: Sequence[Label],
        files: Files,
        whole: Path,
    ) -> Proposal:
        task = {
            "task": "score",
            "path": str(whole),
            "network": found.network.model_dump(mode="json"),
            "ways": [way.model_dump(mode="json") for way in ways],
            "files": [(str(path.resolve()), label) for path, label in files],
            "resolution": found.resolution,
            "n_labels": len(labels),
        }
        total = len(ways) * len(files)
        rows = ask(
            task,
            subject=self.path,
            timeout_s=LONG_S,
            steps=lambda done: self.progress("trying ways to prepare pictures", done, total),
        )
        if all(mark is None for mark in rows[0]):
            raise CatalogError(f"none of the {len(files)} pictures that were tried can be read")
        verdict = decide(ways, [[mark and Mark(*mark) for mark in row] for row in rows])
        network = found.network.model_copy(update={"colours": verdict.way.colours})
        reasons = (*found.reasons, verdict.sentence)
        return found.model_copy(update={"way": verdict.way, "network": network, "reasons": reasons})

    def _framed(self, way: Way) -> list[Way]:
        """A way with other frames, where the user did not say which part of a picture counts."""
        if self.wishes.resize is not None or self.wishes.crop is not None:
            return [way]
        usual = way.preprocessing
        others = [
            way.model_copy(
                update={
                    "name": f"{resize} with {crop:.0%}" if resize == "shortest" else "squash",
                    "preprocessing": usual.model_copy(update={"resize": resize, "crop": crop}),
                }
            )
            for resize, crop in _FRAMES
            if (resize, crop) != (usual.resize, usual.crop)
        ]
        named = f"{usual.resize} with {usual.crop:.0%}" if usual.resize == "shortest" else "squash"
        return [way.model_copy(update={"name": named}), *others]

    def _write(
        self,
        there: Zoo | None,
        labels: tuple[Label, ...],
        found: Proposal,
        whole: Path,
        *,
        name: str | None,
        command: str,
    ) -> Joined:
        stem = name or _NOT_IN_NAMES.sub("-", self.path.stem).strip("-") or "network"
        full = f"{stem}@{found.resolution}"
        _refuse_ours(there, full, self.zoo)
        content = self.shipped.read(self.shipped.zoo()[1].pictures)
        zoo = _blank(self.path, labels, found)
        catalog = own.begin(self.zoos, self.zoo, zoo, pictures=content)
        before = _catalog_file(catalog)
        folder = f"networks/{hashlib.sha256(whole.read_bytes()).hexdigest()[:16]}"
        weights = own.adopt(catalog, f"{folder}/{stem}{self.path.suffix}", whole)
        reference = own.put(
            catalog, f"verify/{full}.npz", self._reference(catalog, found, whole, len(labels))
        )
        checkpoint = Checkpoint(
            name=full,
            architecture=THIRD_PARTY,
            weights=weights,
            data="unknown",
            command=command,
            date=datetime.now(UTC).date().isoformat(),
            card=found.producer or "unknown",
        )
        _, current = catalog.zoo(self.zoo)
        own_way = found.way.preprocessing
        variant = Variant(
            name=full,
            checkpoint=full,
            resolution=found.resolution,
            preprocessing=None if own_way == current.preprocessing else own_way,
            network=found.network,
            reference=reference,
        )
        return Joined(own.save(catalog, checkpoint, variant), variant, before)

    def _reference(self, catalog: Catalog, found: Proposal, whole: Path, n_labels: int) -> bytes:
        """What the file as it came answers to the verification pictures."""
        pixels, packed = io.BytesIO(), whole.with_name("reference.npz")
        shown = whole.with_name("pixels.npy")
        np.save(pixels, pictures(catalog, catalog.zoo(self.zoo)[1], found.resolution))
        shown.write_bytes(pixels.getvalue())
        task = {
            "task": "reference",
            "path": str(whole),
            "network": found.network.model_dump(mode="json"),
            "preprocessing": found.way.preprocessing.model_dump(mode="json"),
            "pixels": str(shown),
            "out": str(packed),
            "n_labels": n_labels,
        }
        wrong = ask(task, subject=self.path)
        if wrong == "no numbers":
            raise CatalogError(f"{self.path} gives numbers that are none (NaN or infinity)")
        if wrong == "the same":
            self.report(SAME_ANSWER)
        return packed.read_bytes()


def take_back(joined: Joined) -> None:
    """Leave the zoo as it was before."""
    path = joined.catalog.root / CATALOG_FILE
    if joined.before is None:
        path.unlink(missing_ok=True)
    else:
        own.put(joined.catalog, CATALOG_FILE, joined.before)


def _catalog_file(catalog: Catalog) -> bytes | None:
    path = catalog.root / CATALOG_FILE
    return path.read_bytes() if path.exists() else None


def _blank(path: Path, labels: tuple[Label, ...], found: Proposal) -> Zoo:
    return Zoo(
        title=f"{len(labels)} classes of {path.stem}",
        labels=labels,
        preprocessing=found.way.preprocessing,
        pictures=NO_FILE,
        checkpoints=(),
        variants=(),
    )


def _refuse_ours(there: Zoo | None, name: str, zoo: str) -> None:
    for variant in there.variants if there else ():
        if variant.name == name and variant.network is None:
            raise CatalogError(f"{zoo} has a variant {name} of another kind: say --name")
