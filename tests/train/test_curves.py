"""Tests of the plot of a run."""

from pathlib import Path

import pytest

from mnv4serve.train.config import Epoch, RunRecord, SetPoint
from mnv4serve.train.curves import accuracies, draw_curves, losses


def record() -> RunRecord:
    curve = tuple(
        Epoch(
            epoch=number,
            resolution=96,
            loss=2 - number,
            dev_accuracy=0.4 + number / 10,
            seconds=1,
            pictures_per_s=100,
            sets={"D1": SetPoint(loss=1 - number / 2, accuracy=0.5)},
        )
        for number in range(2)
    )
    return RunRecord(
        command="mnv4serve distill x",
        recipe={},
        classes=("a", "b"),
        data_hash="d",
        train_pictures=10,
        dev_pictures=2,
        unreadable=(),
        started="now",
        updated="now",
        curve=curve,
    )


def test_each_set_has_its_line() -> None:
    """Beside the loss as a whole and the accuracy on the dev split."""
    assert losses(record()) == [("training", [2, 1]), ("D1", [1, 0.5])]
    assert accuracies(record()) == [("dev", [0.4, 0.5]), ("D1", [0.5, 0.5])]


def test_plot_is_an_svg_and_the_same_each_time(tmp_path: Path) -> None:
    """A file that can be committed does not change without a reason."""
    pytest.importorskip("matplotlib", reason="plots are optional")

    for name in ("a.svg", "b.svg"):
        draw_curves(record(), tmp_path / name)

    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "a.svg").stat().st_size == (tmp_path / "b.svg").stat().st_size
