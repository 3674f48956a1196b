"""Tests of adding up an epoch."""

import torch

from mnv4serve.train.config import SetPoint
from mnv4serve.train.feed import Batch
from mnv4serve.train.tally import Tally


def test_sets_are_averaged_over_their_own_pictures() -> None:
    """A set with one picture in each batch weighs as much as one with two."""
    tally = Tally()
    targets = torch.eye(2)[[0, 1, 0]]
    batch = Batch(torch.zeros(3, 3, 8, 8), targets, (("D1", 1), ("D2", 2)))

    tally.add(2.0, torch.tensor([1.0, 2.0, 3.0]), torch.eye(2)[[0, 0, 0]], batch)
    tally.add(4.0, torch.tensor([3.0, 4.0, 5.0]), torch.eye(2)[[1, 1, 0]], batch)

    assert tally.loss == 3
    assert tally.last == 4
    assert tally.sets() == {
        "D1": SetPoint(loss=2, accuracy=0.5),
        "D2": SetPoint(loss=3.5, accuracy=0.75),
    }


def test_pictures_of_no_set_count_towards_the_whole_alone() -> None:
    """Ordinary training has one loss."""
    tally = Tally()

    tally.add(1.5, torch.ones(2), torch.zeros(2, 2), Batch(torch.zeros(2, 3, 8, 8), torch.eye(2)))

    assert tally.loss == 1.5
    assert tally.sets() == {}
