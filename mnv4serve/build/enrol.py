"""Trained weights into a zoo of the user's own, with everything that serving them needs.

The new state of the zoo is made aside and takes the old one's place when it is complete.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mnv4serve.build import own
from mnv4serve.build.pictures import proof_pictures
from mnv4serve.build.release import (
    Progress,
    Releaser,
    Sources,
    calibration_files,
    read_checkpoint,
)
from mnv4serve.catalog import (
    CATALOG_FILE,
    Catalog,
    File,
    Label,
    Preprocessing,
    Zoo,
    load_catalog,
    own_zoo,
)
from mnv4serve.errors import StorageError
from mnv4serve.evaluation import labelled_files

STAGING = ".staging"
NO_FILE = File(path="", sha256="0" * 64)
"""Until the zoo has pictures."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a zoo of the user's own is made from."""

    zoos: Path
    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    sources: Sources

    def enrol(
        self,
        exported: Path,
        checkpoint: str,
        *,
        state_dir: Path,
        report: Report,
        progress: Progress,
    ) -> Catalog:
        """Add exported weights at the resolutions worth having, measured as served.

        Ranges for int8 come from the training pictures, accuracies from those held out. Raises
        what building raises, and StorageError; the zoo is as it was then.
        """
        staging = self.zoos / STAGING / self.name
        try:
            self._copy(staging)
            catalog = own.begin(staging, self.name, self._zoo(), pictures=self._proof())
            _replace_files(exported, catalog.root / "weights" / self.name, checkpoint)
            entry = read_checkpoint(
                catalog, self.name, checkpoint, data=self.sources.train.resolve().name
            )
            releaser = Releaser(
                self.name, self.sources, state_dir, report=report, progress=progress
            )
            releaser.certify(catalog, entry)
            self._swap(staging)
        except OSError as error:
            raise StorageError(f"{staging} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return load_catalog(own_zoo(self.zoos, self.name))

    def _zoo(self) -> Zoo:
        return Zoo(
            title=f"{len(self.classes)} classes of your own",
            labels=tuple(Label(id=name, name=name) for name in self.classes),
            preprocessing=self.preprocessing,
            pictures=NO_FILE,
            checkpoints=(),
            variants=(),
        )

    def _proof(self) -> bytes:
        labels = self._zoo().labels
        files = [path for path, _ in labelled_files(self.sources.train, labels)]
        return proof_pictures(calibration_files(files, len(files)), self.preprocessing)

    def _old(self, staging: Path) -> Path:
        return staging / f"{self.name}.old"

    def _put_back(self, staging: Path) -> None:
        """Bring back the zoo that a swap took away, where nothing came in its place."""
        final = own_zoo(self.zoos, self.name)
        if self._old(staging).exists() and not final.exists():
            self._old(staging).rename(final)

    def _copy(self, staging: Path) -> None:
        self._put_back(staging)
        shutil.rmtree(staging, ignore_errors=True)
        if (own_zoo(self.zoos, self.name) / CATALOG_FILE).exists():
            shutil.copytree(own_zoo(self.zoos, self.name), own_zoo(staging, self.name))

    def _swap(self, staging: Path) -> None:
        """Two renames: a folder cannot be put over one that holds files."""
        final = own_zoo(self.zoos, self.name)
        try:
            if final.exists():
                final.rename(self._old(staging))
            own_zoo(staging, self.name).rename(final)
        finally:
            self._put_back(staging)


def _replace_files(source: Path, target: Path, checkpoint: str) -> None:
    """Statistics at resolutions that are no longer exported belong to older weights."""
    target.mkdir(parents=True, exist_ok=True)
    for file in target.glob(f"{checkpoint}@*"):
        file.unlink()
    for file in source.iterdir():
        shutil.copyfile(file, target / file.name)
