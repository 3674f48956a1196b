"""A finished run turned into weights to serve: half precision, one set of statistics a resolution.

Everything is chosen and told on the dev split; a validation folder is left to certification.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save
from torch import Tensor

from mnv4serve.arch.model import MobileNetV4, load_weights
from mnv4serve.errors import TrainError
from mnv4serve.train.checkpoint import write_whole
from mnv4serve.train.config import RunRecord, TrainConfig
from mnv4serve.train.evaluate import (
    CALIBRATION_PICTURES,
    Labelled,
    accuracy,
    reestimate_batch_norm,
)
from mnv4serve.train.run import Run, describe, labelled, restore, training_pictures

CALIBRATION_SEED = 0

Weights = Mapping[str, Tensor]


class ExportRecord(BaseModel):
    """Where exported weights come from and how right they are, resolution by resolution."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    weights: str
    dev_accuracy: dict[int, float]
    run: RunRecord


@dataclass(frozen=True, slots=True)
class Trial:
    """Pictures to estimate statistics from, and others to judge by."""

    calibration: Tensor
    dev: Labelled


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice of weights with its statistics and dev accuracy at each resolution."""

    name: str
    weights: Weights
    statistics: Mapping[int, Weights]
    dev_accuracy: Mapping[int, float]

    @property
    def mean_accuracy(self) -> float:
        return sum(self.dev_accuracy.values()) / len(self.dev_accuracy)


def export(config: TrainConfig, folder: Path, resolutions: Sequence[int]) -> ExportRecord:
    """Write a finished run's better weights, its statistics and its record into a folder."""
    pictures = training_pictures(config)
    run = restore(config, pictures)
    if run is None or len(run.curve) < config.epochs:
        raise TrainError(f"there is no finished run of {config.architecture} in {config.out}")
    best = choose(config, run, resolutions)
    record = ExportRecord(
        architecture=config.architecture,
        weights=best.name,
        dev_accuracy=dict(best.dev_accuracy),
        run=describe(config, run, pictures),
    )
    write_candidate(folder, config.architecture, best)
    path = folder / f"{config.architecture}.json"
    write_whole(path, record.model_dump_json(indent=1).encode())
    return record


def choose(config: TrainConfig, run: Run, resolutions: Sequence[int]) -> Candidate:
    """The averaged weights or the last ones, whichever the dev split prefers."""
    trials = {resolution: trial(config, resolution) for resolution in resolutions}
    average = run.average.module
    assert isinstance(average, MobileNetV4)
    candidates = [judge("average", average, trials), judge("last", run.model, trials)]
    return max(candidates, key=lambda candidate: candidate.mean_accuracy)


def trial(config: TrainConfig, resolution: int) -> Trial:
    """Pictures decoded at a resolution as they are when served, in random order."""
    pictures = training_pictures(config.model_copy(update={"picture_size": resolution}))
    rows = np.random.default_rng(CALIBRATION_SEED).permutation(pictures.rows(dev=False))
    calibration = pictures.resized(rows[:CALIBRATION_PICTURES], resolution)
    return Trial(calibration, labelled(pictures, resolution, dev=True))


def judge(name: str, model: MobileNetV4, trials: Mapping[int, Trial]) -> Candidate:
    """Round weights and statistics to half precision, then measure what is left of them."""
    weights = half(model.state_dict())
    statistics, found = {}, {}
    for resolution, trial in trials.items():
        load_weights(model, weights)
        measured = reestimate_batch_norm(model, trial.calibration, resolution)
        statistics[resolution] = half(measured)
        load_weights(model, weights, statistics[resolution])
        found[resolution] = accuracy(model, trial.dev, resolution)
    return Candidate(name, weights, statistics, found)


def half(state: Weights) -> dict[str, Tensor]:
    """Half-precision copies, refused where a value does not fit."""
    rounded = {
        key: value.half().contiguous()
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    if broken := [key for key, value in rounded.items() if not value.isfinite().all()]:
        raise TrainError(
            f"these weights do not fit half precision, {broken[0]} first of {len(broken)}: the "
            "run went astray, try a lower --learning-rate"
        )
    return rounded


def write_candidate(folder: Path, architecture: str, chosen: Candidate) -> None:
    """Shared weights with the largest resolution's statistics, and a small file for each one."""
    largest = chosen.statistics[max(chosen.statistics)]
    write_whole(folder / f"{architecture}.safetensors", save({**chosen.weights, **largest}))
    for resolution, statistics in chosen.statistics.items():
        write_whole(folder / f"{architecture}@{resolution}.bn.safetensors", save({**statistics}))
