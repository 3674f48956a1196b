"""Everything that decides the outcome of a training run, and the record that it leaves."""

from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from mnv4serve.arch.model import check_resolution
from mnv4serve.arch.specs import ARCHITECTURES
from mnv4serve.errors import TrainError
from mnv4serve.train.augment import Augmentation
from mnv4serve.train.views import TeacherName, ViewSet


def _several(value: object) -> object:
    return (value,) if isinstance(value, int) else value


Resolutions = Annotated[tuple[int, ...], BeforeValidator(_several), Field(min_length=1)]
Schedule = tuple[tuple[float, Resolutions], ...]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]

SHARE_TOLERANCE = 1e-6
ALWAYS_NAMED = frozenset({"architecture", "epochs", "seed"})
LOCAL_FIELDS = frozenset({"data", "out", "cache", "threads", "resume"})


class Start(BaseModel):
    """The weights that a run begins with, known by what the file holds and not by where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    architecture: str
    sha256: str
    path: Path | None = Field(default=None, exclude=True)

    @classmethod
    def of(cls, path: Path, *, name: str, architecture: str) -> Self:
        """Names a weights file by what it holds."""
        try:
            digest = sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise TrainError(f"cannot start from {path}: {error.strerror}") from error
        return cls(name=name, architecture=architecture, sha256=digest, path=path)


class Distillation(BaseModel):
    """What a student looks at and who says what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: Annotated[tuple[ViewSet, ...], Field(min_length=1)]
    shares: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Of a batch, one for each set."""
    teacher: TeacherName | None = None
    """None lets the folders' names be the targets."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the views, apart from the seed of the run."""
    folder: Path | None = Field(default=None, exclude=True)
    """Where the teacher's answers are kept."""

    @model_validator(mode="after")
    def _a_share_each(self) -> Self:
        if len(self.views) != len(self.shares):
            raise ValueError("each set of a mixture needs one share")
        if len({views.name for views in self.views}) < len(self.views):
            raise ValueError("a mixture names each set once")
        return self

    def counts(self, batch_size: int) -> list[int]:
        """How many pictures of a batch come from each set."""
        bounds = [round(batch_size * part / sum(self.shares)) for part in accumulate(self.shares)]
        return [high - low for low, high in pairwise([0, *bounds])]


class TrainConfig(BaseModel):
    """One training run; equal values give equal weights on the same machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    """A folder of class folders, or one that holds such folders as `train/` and `val/`."""
    out: Path
    cache: Path | None = None
    architecture: str = "conv_small"
    epochs: Count = 60
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 0.05
    warmup_epochs: NotNegative = 3.0
    schedule: Schedule = ((0.6, (96,)), (0.3, (128,)), (0.1, (160,)))
    """Shares of the epochs with the resolutions that each batch of them draws from."""
    label_smoothing: Fraction = 0.1
    ema: Fraction = 0.998
    drop_path: Fraction | None = None
    """Highest rate of stochastic depth; None takes the architecture's own."""
    augmentation: Augmentation = Augmentation()
    start: Start | None = None
    """Weights to start from; random ones where None."""
    distillation: Distillation | None = None
    """Stored views and answers instead of `augmentation` and labels."""
    picture_size: Annotated[int, Field(ge=32)] = 224
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Count | None = None
    resume: bool = True

    @field_validator("architecture")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ARCHITECTURES:
            raise ValueError(f"unknown architecture; there are {', '.join(ARCHITECTURES)}")
        return name

    @field_validator("schedule")
    @classmethod
    def _whole(cls, schedule: Schedule) -> Schedule:
        for share, resolutions in schedule:
            for resolution in resolutions:
                check_resolution(resolution, resolution)
            if not share > 0:  # nor no number
                raise ValueError("each part of the schedule needs a share above 0")
        if abs(sum(share for share, _ in schedule) - 1) > SHARE_TOLERANCE:
            raise ValueError("the shares of the schedule must add up to 1")
        return schedule

    @model_validator(mode="after")
    def _each_set_in_each_batch(self) -> Self:
        if self.distillation and not all(self.distillation.counts(self.batch_size)):
            raise ValueError(
                f"each set of a mixture needs at least one picture of the {self.batch_size} in a "
                "batch: give it a larger share"
            )
        return self

    @property
    def checkpoint(self) -> Path:
        return self.out / f"{self.architecture}.checkpoint.pt"

    @property
    def record(self) -> Path:
        return self.out / f"{self.architecture}.json"

    @property
    def cache_folder(self) -> Path:
        return self.cache or self.out / "cache"

    def resolutions_at(self, epoch: int) -> tuple[int, ...]:
        """The training resolutions of an epoch, counted from 0."""
        passed = 0.0
        for share, resolutions in self.schedule:
            passed += share
            if epoch + 0.5 < passed * self.epochs:
                return resolutions
        return self.schedule[-1][1]

    def work_of(self, epoch: int) -> float:
        """Of an epoch relative to others: it grows with the pixels."""
        resolutions = self.resolutions_at(epoch)
        return sum(resolution**2 for resolution in resolutions) / len(resolutions)

    def command(self) -> str:
        """The command line of this run, without the folders of one machine."""
        defaults = TrainConfig(data=self.data, out=self.out)
        verb, skip = "train", LOCAL_FIELDS
        if self.distillation:
            verb, skip = "distill", LOCAL_FIELDS | {"label_smoothing"}
        parts = [f"mnv4serve {verb} {self.data.name}", *_flags(self, defaults, skip=skip)]
        return " ".join(parts)

    def recipe(self) -> dict[str, object]:
        """What the outcome depends on, without the folders of one machine."""
        return self.model_dump(mode="json", exclude=set(LOCAL_FIELDS))


def schedule_text(schedule: Schedule) -> str:
    """A schedule as the command line takes it."""
    return ",".join(f"{share}:{'+'.join(map(str, sizes))}" for share, sizes in schedule)


class SetPoint(BaseModel):
    """How the student did on one set of a mixture during an epoch."""

    model_config = ConfigDict(frozen=True)

    loss: float
    accuracy: float
    """Share of the views whose largest logit is the target's largest."""


class Epoch(BaseModel):
    """One point of the training curve."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    """Counted from 0."""
    resolution: int
    """The largest, where several were drawn from."""
    loss: float
    dev_accuracy: float
    """Of the averaged weights, with the statistics that training left behind."""
    seconds: float
    pictures_per_s: float
    sets: dict[str, SetPoint] = {}
    """By name, where the pictures come from a mixture."""


class RunRecord(BaseModel):
    """What was run on which pictures, and how it went."""

    model_config = ConfigDict(frozen=True)

    command: str
    recipe: dict[str, object]
    classes: tuple[str, ...]
    data_hash: str
    train_pictures: int
    dev_pictures: int
    unreadable: tuple[str, ...]
    started: str
    updated: str
    curve: tuple[Epoch, ...] = ()


def _flags(settings: BaseModel, defaults: BaseModel, *, skip: frozenset[str]) -> list[str]:
    flags = []
    for name, value in settings:
        default = getattr(defaults, name)
        if name in skip or (value == default and name not in ALWAYS_NAMED):
            continue
        if isinstance(value, Augmentation):
            flags += _flags(value, default, skip=skip)
        elif isinstance(value, Start):
            flags.append(f"--from {value.name}")
        elif isinstance(value, Distillation):
            flags += _mixture_flags(value)
        elif isinstance(value, tuple):
            flags.append(f"--{name} {schedule_text(value)}")
        else:
            flags.append(f"--{name.replace('_', '-')} {value}")
    return flags


def _mixture_flags(chosen: Distillation) -> list[str]:
    parts = zip(chosen.views, chosen.shares, strict=True)
    mixture = ",".join(f"{views.name}:{share:g}" for views, share in parts)
    teacher = [f"--teacher {chosen.teacher.name}"] if chosen.teacher else []
    return [*teacher, f"--mixture {mixture}"]
