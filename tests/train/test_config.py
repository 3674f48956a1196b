"""Tests of the settings of a run."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mnv4serve.train.config import TrainConfig


def config(**changes: object) -> TrainConfig:
    return TrainConfig.model_validate({"data": "/somewhere/pets", "out": "/tmp/out", **changes})


def test_schedule_gives_each_epoch_its_resolution() -> None:
    """Shares become whole epochs, in order."""
    chosen = config(epochs=10, schedule=((0.6, 96), (0.3, 128), (0.1, (160, 96))))

    assert [chosen.resolutions_at(e) for e in range(10)] == (
        [(96,)] * 6 + [(128,)] * 3 + [(160, 96)]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "conv_tiny"},
        {"schedule": ((0.5, 96),)},
        {"schedule": ((1.0, 100),)},
        {"schedule": ((1.5, 96), (-0.5, 128))},
        {"schedule": ((float("nan"), 96),)},
        {"epochs": 0},
        {"learning_rate": -1},
        {"speed": 3},
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object]) -> None:
    """Unknown names and values out of range never start a run."""
    with pytest.raises(ValidationError):
        config(**changes)


def test_command_names_what_differs_but_no_folder() -> None:
    """The record's command can be repeated elsewhere."""
    chosen = config(epochs=5, schedule=((1.0, 64),), augmentation={"mixup": 0.1})

    assert chosen.command() == (
        "mnv4serve train pets --architecture conv_small --epochs 5 --schedule 1.0:64 "
        "--mixup 0.1 --seed 0"
    )


def test_recipe_is_free_of_machine_details() -> None:
    """Folders and thread counts do not decide whether a run may be resumed."""
    first = config(threads=2, cache="/fast")
    second = config(data=Path("/elsewhere/pets"), resume=False)

    assert first.recipe() == second.recipe()
    assert config(seed=1).recipe() != first.recipe()
