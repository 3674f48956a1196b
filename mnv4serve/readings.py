"""The log of held-out pictures: what each artifact answered, the one time that it was asked.

A line is never changed or removed. Reading the same artifact again would turn held-out pictures
into ones that choices are made on, so it needs a reason, which the log keeps.
"""

import base64
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError, StorageError

FOLDER = "readings"


class Reading(BaseModel):
    """One look of one artifact at held-out pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The hash of everything that made it."""
    variant: str
    backend: BackendName
    precision: Precision
    runtime: str
    """What executed it, with its version."""
    date: str
    split: str
    again: str | None = None
    """Why it was read once more; None the first time."""
    n: Annotated[int, Field(gt=0)]
    right: int
    """How many of the `n` pictures were labelled right."""
    pictures: str | None = None
    """Hash of the pictures' names in their order; None where answers were not kept."""
    marks: str | None = None
    """One bit a picture, right or wrong, lowest bit first, in base64."""
    by_label: tuple[tuple[int, int], ...] = ()
    """For each label how many of its pictures were labelled right, and of how many."""
    calibration_error: tuple[float, float] | None = None
    """Expected calibration error at temperature 1 and at the variant's own."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.marks is not None and self.mask.bit_count() != self.right:
            raise ValueError("the marks do not add up to the number of right answers")
        return self

    @property
    def mask(self) -> int:
        """The marks as one number, a bit a picture."""
        return int.from_bytes(base64.b64decode(self.marks or ""), "little")


def encode_marks(mask: int, n: int) -> str:
    """A mask of `n` bits as a reading keeps it."""
    return base64.b64encode(mask.to_bytes((n + 7) // 8, "little")).decode()


def log_of(models: Path, zoo: str) -> Path:
    """Where a zoo's log lies."""
    return models / FOLDER / f"{zoo}.jsonl"


def load_readings(models: Path, zoo: str) -> Mapping[str, Reading]:
    """The last reading of each artifact by its hash; none where there is no log."""
    path = log_of(models, zoo)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        readings = [Reading.model_validate_json(line) for line in lines]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise CatalogError(f"{path} is damaged, restore it from the release: {reason}") from error
    return {reading.artifact: reading for reading in readings}


def append_reading(models: Path, zoo: str, reading: Reading) -> None:
    """Put a reading at the end of its zoo's log."""
    path = log_of(models, zoo)
    line = json.dumps(reading.model_dump(mode="json", exclude_defaults=True)) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, line.encode())
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error


def _append(path: Path, line: bytes) -> None:
    """Add a line or nothing: half of one would spoil the whole log."""
    with path.open("ab", buffering=0) as log:
        before = log.tell()
        if log.write(line) < len(line):
            log.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
