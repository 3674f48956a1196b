"""Tests of whole runs on a tiny set."""

from pathlib import Path

import pytest
import torch

from mnv4serve.errors import TrainError
from mnv4serve.train.augment import Augmentation
from mnv4serve.train.checkpoint import load_checkpoint, save_checkpoint
from mnv4serve.train.config import RunRecord, TrainConfig
from mnv4serve.train.loop import Report, train


class PowerCutError(Exception):
    """Ends a run at a chosen report, as a lost machine would."""


class Cut:
    """A progress callable that ends the run once it is so far done."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, report: Report) -> None:
        if report.stage.startswith("epoch") and report.share > self.share:
            raise PowerCutError


def test_resumed_run_equals_an_unbroken_one(config: TrainConfig, tmp_path: Path) -> None:
    """Weights, average, optimiser and curve are the same to the last bit."""
    broken = config.model_copy(update={"out": tmp_path / "broken"})
    train(config)
    with pytest.raises(PowerCutError):
        train(broken, Cut(0.5))

    record = train(broken)

    whole, resumed = load_checkpoint(config.checkpoint), load_checkpoint(broken.checkpoint)
    for part in ("model", "average"):
        assert whole[part].keys() == resumed[part].keys()
        assert all(torch.equal(v, resumed[part][k]) for k, v in whole[part].items())
    assert str(whole["optimiser"]) == str(resumed["optimiser"])
    assert [e.loss for e in record.curve] == [point["loss"] for point in whole["curve"]]


def test_run_learns_and_leaves_its_record(config: TrainConfig) -> None:
    """Two colours are told apart, and the record says how that came about."""
    reports: list[Report] = []
    easy = {"epochs": 16, "augmentation": Augmentation(colour=0), "drop_path": None}
    chosen = config.model_copy(update={**easy, "schedule": ((0.3, (32,)), (0.7, (64,)))})

    record = train(chosen, reports.append)

    assert record.curve[-1].dev_accuracy > 0.8
    assert [e.resolution for e in record.curve] == [32] * 5 + [64] * 11
    assert RunRecord.model_validate_json(chosen.record.read_bytes()).curve == record.curve
    assert str(config.data.parent) not in chosen.record.read_text()
    assert reports[-1].share < 1
    assert reports[-1].share > 0.9
    assert reports[-1].eta_s >= 0


def test_seed_decides_the_outcome(config: TrainConfig, tmp_path: Path) -> None:
    """Another seed gives another network."""
    short = config.model_copy(update={"epochs": 1})
    other = short.model_copy(update={"seed": 1, "out": tmp_path / "other"})

    first, second = train(short), train(other)

    assert first.curve[0].loss != second.curve[0].loss


def test_loss_that_is_no_number_keeps_the_last_checkpoint(config: TrainConfig) -> None:
    """The run stops with one sentence and the file on disk stays as it was."""
    with pytest.raises(PowerCutError):
        train(config, Cut(0.25))
    saved = load_checkpoint(config.checkpoint)
    saved["model"]["classifier.bias"].fill_(float("nan"))
    save_checkpoint(config.checkpoint, saved)
    before = config.checkpoint.read_bytes()

    with pytest.raises(TrainError, match="the loss became nan in epoch 2"):
        train(config)

    assert config.checkpoint.read_bytes() == before


def test_weights_that_the_last_step_ruined_are_not_kept(config: TrainConfig) -> None:
    """The loss of a step is computed before it; the checkpoint has to be a good one."""
    changes = {"batch_size": 32, "learning_rate": 1e39, "warmup_epochs": 0.0}
    one_step = config.model_copy(update=changes)

    with pytest.raises(TrainError, match=r"is no number any more in epoch 1; nothing is kept"):
        train(one_step)

    assert not one_step.checkpoint.exists()


def test_checkpoint_of_other_settings_is_refused(config: TrainConfig) -> None:
    """Resuming never continues something else; starting afresh is allowed."""
    train(config.model_copy(update={"epochs": 1}))
    changed = config.model_copy(update={"epochs": 1, "learning_rate": 1e-3})

    with pytest.raises(TrainError, match="a run with other learning_rate: start"):
        train(changed)

    assert len(train(changed.model_copy(update={"resume": False})).curve) == 1


def test_checkpoint_of_another_architecture_is_refused(config: TrainConfig) -> None:
    """A file that was put in its place is told apart before anything is loaded."""
    short = config.model_copy(update={"epochs": 1})
    train(short)
    other = short.model_copy(update={"architecture": "conv_small_050"})
    short.checkpoint.rename(other.checkpoint)

    with pytest.raises(TrainError, match="a run with other architecture: start"):
        train(other)


def test_too_few_pictures_are_refused(config: TrainConfig) -> None:
    """Less than one batch cannot be trained on."""
    with pytest.raises(TrainError, match=r"too few pictures: \d+ to train on .* needs 1000"):
        train(config.model_copy(update={"batch_size": 1000}))
