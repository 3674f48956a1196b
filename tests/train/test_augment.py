"""Tests of the random views."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv4serve.train.augment import Augmentation, augment, jitter, mix, view_matrices

PLAIN = Augmentation(smallest_crop=1, aspect=1, flip=0, rotation_degrees=0, colour=0)


def noise(count: int = 4, side: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def test_no_augmentation_is_normalisation_alone() -> None:
    """With everything turned off a view is the picture in -1..1."""
    pictures = noise()

    views = augment(pictures, 24, PLAIN, np.random.default_rng(0))

    torch.testing.assert_close(views, pictures / 127.5 - 1, rtol=0, atol=1e-4)


def test_sure_flip_mirrors() -> None:
    """A flip probability of one turns every picture round."""
    pictures = noise()

    views = augment(pictures, 24, PLAIN.model_copy(update={"flip": 1}), np.random.default_rng(0))

    torch.testing.assert_close(views, (pictures / 127.5 - 1).flip(-1), rtol=0, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), crop=st.floats(0.1, 1), aspect=st.floats(1, 2))
def test_crops_lie_inside_the_picture(seed: int, crop: float, aspect: float) -> None:
    """Without a turn no view shows anything from beyond the border."""
    chosen = Augmentation(smallest_crop=crop, aspect=aspect, rotation_degrees=0)

    theta = view_matrices(16, chosen, np.random.default_rng(seed))

    reach = np.abs(theta[:, :, :2]).sum(2) + np.abs(theta[:, :, 2])
    assert reach.max() <= 1 + 1e-5


def test_equal_seeds_give_equal_views() -> None:
    """All randomness comes from the generator that is passed in."""
    first, second = (
        augment(noise(), 16, Augmentation(), np.random.default_rng(7)) for _ in range(2)
    )

    assert torch.equal(first, second)
    assert first.min() >= -1
    assert first.max() <= 1


def test_colour_jitter_stays_in_range() -> None:
    """Brighter or more saturated colours are clipped, not wrapped."""
    images = noise() / 255

    jittered = jitter(images.clone(), 0.9, np.random.default_rng(0))

    assert jittered.min() >= 0
    assert jittered.max() <= 1
    assert not torch.equal(jittered, images)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_targets_match_mixed_pixels(kind: str) -> None:
    """The share of a second class in the target is its share of the pixels."""
    images = torch.cat([torch.zeros(8, 3, 32, 32), torch.ones(8, 3, 32, 32)])
    labels = torch.arange(16) // 8
    chosen = Augmentation(mixup=float(kind == "mixup"), cutmix=float(kind == "cutmix"))

    for seed in range(10):
        mixed, targets = mix(images, labels, 2, chosen, np.random.default_rng(seed))
        torch.testing.assert_close(mixed.mean((1, 2, 3)), targets[:, 1])
        torch.testing.assert_close(targets.sum(1), torch.ones(16))


def test_no_mixing_gives_one_hot_targets() -> None:
    """With both shares at zero a batch passes unchanged."""
    images = torch.rand(4, 3, 8, 8)

    mixed, targets = mix(images, torch.tensor([0, 2, 1, 0]), 3, PLAIN, np.random.default_rng(0))

    assert mixed is images
    assert targets.argmax(1).tolist() == [0, 2, 1, 0]
