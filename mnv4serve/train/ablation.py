"""Which targets and views make the best small network: the same steps, several seeds, dev only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from pydantic import BaseModel, ConfigDict, ValidationError

from mnv4serve.errors import TrainError
from mnv4serve.train.checkpoint import write_whole
from mnv4serve.train.config import Distillation, Start, TrainConfig
from mnv4serve.train.export import choose
from mnv4serve.train.loop import Progress, train
from mnv4serve.train.run import restore, training_pictures
from mnv4serve.train.views import VIEW_SETS, TeacherName

PAIR = ("D1", "D2")


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train: which sets, who names their pictures, and what it starts from."""

    name: str
    sets: tuple[str, ...] = ()
    taught: bool = False
    started: bool = False


ARMS = (
    Arm("recipe"),
    Arm("recipe, sliced", started=True),
    Arm("hard labels", PAIR),
    Arm("D1", PAIR[:1], taught=True),
    Arm("D2", PAIR[1:], taught=True),
    Arm("D1+D2", PAIR, taught=True),
)
"""`recipe` is what `train` does; `hard labels` sees the pixels of `D1+D2`."""


class Outcome(BaseModel):
    """What one arm came to with one seed."""

    model_config = ConfigDict(frozen=True)

    arm: str
    seed: int
    dev_accuracy: float
    """At the resolution of the run, with re-estimated batch-norm statistics."""
    curve: tuple[float, ...]
    """Accuracy on the dev split after each epoch."""


class Ablation(BaseModel):
    """All outcomes so far, and what the runs had in common."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    epochs: int
    resolution: int
    teacher: TeacherName
    outcomes: tuple[Outcome, ...] = ()

    def of(self, arm: str) -> list[float]:
        return [outcome.dev_accuracy for outcome in self.outcomes if outcome.arm == arm]

    def summary(self) -> list[tuple[str, float, float]]:
        """Each arm's mean and spread over the seeds, best first."""
        names = dict.fromkeys(outcome.arm for outcome in self.outcomes)
        found = [(name, mean(self.of(name)), _spread(self.of(name))) for name in names]
        return sorted(found, key=lambda row: -row[1])


@dataclass(frozen=True, slots=True)
class Plan:
    """What the arms of an ablation share."""

    base: TrainConfig
    """Its `out` gets a folder for each run."""
    teacher: TeacherName
    labels: Path
    start: Start | None
    seeds: tuple[int, ...]

    @property
    def result(self) -> Path:
        return self.base.out / "ablation.json"

    @property
    def resolution(self) -> int:
        return max(self.base.resolutions_at(self.base.epochs - 1))

    def runs(self, arms: Sequence[Arm] = ARMS) -> Iterator[tuple[Arm, int, TrainConfig]]:
        """Seed by seed, so that an ablation cut short has all arms."""
        for seed in self.seeds:
            for arm in arms:
                if not arm.started or self.start is not None:
                    yield arm, seed, self.config(arm, seed)

    def config(self, arm: Arm, seed: int) -> TrainConfig:
        """The run of one arm with one seed; all share their views."""
        folder = self.base.out / f"{arm.name.replace(', ', '-').replace(' ', '-')}-{seed}"
        changes: dict[str, object] = {"out": folder, "seed": seed}
        changes["cache"] = self.base.cache_folder
        if arm.sets:
            changes["distillation"] = Distillation(
                views=tuple(VIEW_SETS[name] for name in arm.sets),
                shares=(1.0,) * len(arm.sets),
                teacher=self.teacher if arm.taught else None,
                folder=self.labels,
            )
        if arm.taught:
            changes["label_smoothing"] = 0.0
        if arm.started:
            changes["start"] = self.start
        return self.base.model_copy(update=changes)


def ablate(plan: Plan, progress: Progress | None = None, arms: Sequence[Arm] = ARMS) -> Ablation:
    """Run what is missing; the result is written after each run."""
    result = read_ablation(plan)
    done = {(outcome.arm, outcome.seed) for outcome in result.outcomes}
    for arm, seed, config in plan.runs(arms):
        if (arm.name, seed) in done:
            continue
        record = train(config, progress)
        outcome = Outcome(
            arm=arm.name,
            seed=seed,
            dev_accuracy=_judged(config, plan.resolution),
            curve=tuple(point.dev_accuracy for point in record.curve),
        )
        result = result.model_copy(update={"outcomes": (*result.outcomes, outcome)})
        write_whole(plan.result, result.model_dump_json(indent=1).encode())
        config.checkpoint.unlink()
    return result


def read_ablation(plan: Plan) -> Ablation:
    """The outcomes on disk, refused where they are of another plan."""
    fresh = Ablation(
        architecture=plan.base.architecture,
        epochs=plan.base.epochs,
        resolution=plan.resolution,
        teacher=plan.teacher,
    )
    if not plan.result.exists():
        return fresh
    try:
        found = Ablation.model_validate_json(plan.result.read_bytes())
    except ValidationError as error:
        raise TrainError(f"{plan.result} holds no ablation; remove it") from error
    if found.model_copy(update={"outcomes": ()}) != fresh:
        raise TrainError(f"{plan.result} is of another ablation; choose another folder")
    return found


def _judged(config: TrainConfig, resolution: int) -> float:
    run = restore(config, training_pictures(config))
    assert run is not None
    return choose(config, run, [resolution]).mean_accuracy


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
