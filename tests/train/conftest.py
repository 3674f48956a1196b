"""A tiny picture folder that training can learn within seconds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnv4serve.train.augment import Augmentation
from mnv4serve.train.config import TrainConfig

COLOURS = {"blue": (40, 60, 200), "red": (200, 60, 40)}
PER_CLASS = 24


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy pictures of two colours, split into train/ and val/."""
    root = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for split, count in (("train", PER_CLASS), ("val", 4)):
            target = root / split / name
            target.mkdir(parents=True)
            for number in range(count):
                noise = random.normal(colour, 30, (40, 48, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).save(target / f"{name}{number}.png")
    return root


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> TrainConfig:
    """Three short epochs of the smallest network."""
    return TrainConfig(
        data=folder,
        out=tmp_path / "out",
        cache=folder / "cache",
        architecture="conv_small_035",
        epochs=3,
        batch_size=8,
        schedule=((0.6, (32,)), (0.4, (32, 64))),
        warmup_epochs=0.5,
        picture_size=64,
        ema=0.5,
        augmentation=Augmentation(mixup=0.3, cutmix=0.3),
        threads=1,
        drop_path=0.1,
    )
