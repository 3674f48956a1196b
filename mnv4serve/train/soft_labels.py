"""A teacher's answers to replicas of the training pictures, appended to a compact file.

A set is two files: what it depends on as JSON, and the probabilities in half precision, replica
after replica. The views themselves are never stored; they can be drawn again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from mnv4serve.arch.model import MobileNetV4, create_model, load_weights
from mnv4serve.errors import TrainError
from mnv4serve.train.checkpoint import write_whole
from mnv4serve.train.views import TeacherName, ViewSet, draw_replica, render

TEACHER_BATCH = 64
BYTES_PER_NUMBER = 2

Advance = Callable[[int, int], None]
"""Called with the number of views labelled and of all views."""


class LabelledSet(BaseModel):
    """Everything that a set's labels depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: ViewSet
    seed: int
    teacher: TeacherName
    data_hash: str
    pictures: int
    classes: int

    @property
    def replica_bytes(self) -> int:
        return self.pictures * self.classes * BYTES_PER_NUMBER


@dataclass(frozen=True, slots=True)
class Trained:
    """A network's two files."""

    architecture: str
    weights: Path
    batch_norm: Path


@dataclass(frozen=True, slots=True)
class Teacher:
    """Trained networks that answer together instead of the folders' names."""

    name: TeacherName
    models: tuple[MobileNetV4, ...]

    def answer(self, views: Tensor) -> Tensor:
        """Mean class probabilities; half as precise as training and almost twice as fast."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = [model(views) for model in self.models]
        return torch.stack([each.float().softmax(1) for each in logits]).mean(0)


def load_teacher(trained: Sequence[Trained], *, resolution: int, classes: int) -> Teacher:
    """Networks in the state that their files hold, ready to answer at one resolution."""
    digest, models = sha256(), []
    for each in trained:
        model = create_model(each.architecture, classes)
        load_weights(model, each.weights, each.batch_norm)
        model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        models.append(model)
        digest.update(each.weights.read_bytes() + each.batch_norm.read_bytes())
    names = ",".join(f"{each.architecture}@{resolution}" for each in trained)
    name = TeacherName(name=names, sha256=digest.hexdigest(), resolution=resolution)
    return Teacher(name, tuple(models))


class LabelFile:
    """The labels of one set on disk; a replica that was cut off while writing does not count."""

    def __init__(self, folder: Path, kept: LabelledSet) -> None:
        self.kept = kept
        self.path = folder / f"{kept.views.name}.labels"
        self._describe(folder / f"{kept.views.name}.json")

    @property
    def replicas(self) -> int:
        """How many whole replicas are labelled."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return size // self.kept.replica_bytes

    def append(self, probabilities: Tensor) -> None:
        """Add the next replica; where that fails the ones before it stay."""
        whole = self.replicas * self.kept.replica_bytes
        try:
            with self.path.open("ab") as file:
                file.truncate(whole)
                file.write(probabilities.half().numpy().tobytes())
        except OSError as error:
            raise TrainError(
                f"cannot add labels to {self.path}: {error.strerror}; {self.replicas} replicas "
                "are kept"
            ) from error

    def read(self, number: int) -> Tensor:
        """The probabilities of one replica, row by row."""
        count = self.kept.replica_bytes // BYTES_PER_NUMBER
        flat = np.fromfile(
            self.path, np.float16, count, offset=number * self.kept.replica_bytes
        ).astype(np.float32)
        return torch.from_numpy(flat).view(self.kept.pictures, self.kept.classes)

    def _describe(self, header: Path) -> None:
        if not header.exists():
            write_whole(header, self.kept.model_dump_json(indent=1).encode())
            self.path.unlink(missing_ok=True)
            return
        try:
            found = LabelledSet.model_validate_json(header.read_bytes())
        except ValidationError as error:
            raise TrainError(f"{header} does not describe labels; remove it") from error
        if found != self.kept:
            raise TrainError(
                f"the labels in {self.path} are of another teacher, seed or data; choose another "
                "folder for labels or remove them"
            )


def label(
    teacher: Teacher, file: LabelFile, source: Tensor, replicas: int, advance: Advance
) -> None:
    """Let the teacher answer until a set has so many replicas; what is there is kept."""
    count, first = file.kept.pictures, file.replicas
    rows, total = np.arange(count), max(0, replicas - first) * count
    upright = np.zeros(count, np.bool_)
    for number in range(first, replicas):
        replica = draw_replica(file.kept.views, count, seed=file.kept.seed, number=number)
        answers = []
        for start in range(0, count, TEACHER_BATCH):
            batch = rows[start : start + TEACHER_BATCH]
            views = render(replica, source, batch, teacher.name.resolution, upright[batch])
            answers.append(teacher.answer(views))
            advance((number - first) * count + start + len(batch), total)
        file.append(torch.cat(answers))
