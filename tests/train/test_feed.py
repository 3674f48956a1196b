"""Tests of what a run is shown."""

import numpy as np
import pytest

from mnv4serve.train.config import TrainConfig
from mnv4serve.train.data import Pictures
from mnv4serve.train.feed import LabelledFeed, Sources, draw
from mnv4serve.train.run import training_pictures


@pytest.fixture
def pictures(config: TrainConfig) -> Pictures:
    return training_pictures(config)


def test_epoch_shows_whole_batches_at_the_prepared_resolutions(
    config: TrainConfig, pictures: Pictures
) -> None:
    """Of several resolutions every batch has one, and both come."""
    feed = LabelledFeed(config, pictures)
    feed.prepare([32, 64])

    shapes = [
        tuple(batch.images.shape)
        for epoch in range(4)
        for batch in feed.batches(epoch, np.random.default_rng(epoch))
    ]

    assert len(shapes) == 4 * feed.steps
    assert set(shapes) == {(8, 3, 32, 32), (8, 3, 64, 64)}


def test_equal_generators_show_the_same(config: TrainConfig, pictures: Pictures) -> None:
    """An epoch is a function of its generator."""
    feed = LabelledFeed(config, pictures)
    feed.prepare([32])

    first, again = (next(feed.batches(0, np.random.default_rng(5))) for _ in range(2))

    assert first.images.equal(again.images)
    assert first.targets.equal(again.targets)


def test_sources_are_larger_than_the_resolution_where_they_can(pictures: Pictures) -> None:
    """A crop of half the side stays sharp; nothing is larger than what was decoded."""
    sources = Sources(pictures)

    sources.prepare([32, 64])

    assert sources.at(32).shape[-1] == 48
    assert sources.at(64).shape[-1] == 64
    sources.prepare([64])
    with pytest.raises(KeyError):
        sources.at(32)


def test_single_resolution_draws_nothing() -> None:
    """Runs at one resolution keep the numbers they always had."""
    first, second = np.random.default_rng(0), np.random.default_rng(0)

    assert draw((96,), first) == 96
    assert first.random() == second.random()
