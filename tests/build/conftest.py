"""A zoo whose network was trained for a second on the verification pictures, then released."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from mnv4serve.arch.model import create_model
from mnv4serve.build.catalog_file import save_catalog
from mnv4serve.build.release import Releaser, Sources, describe
from mnv4serve.build.verify import enlarge
from mnv4serve.catalog import Catalog, Checkpoint, Label, Preprocessing, Zoo, load_catalog

PICTURES = Path(__file__).parents[2] / "models" / "verify" / "pictures.npz"
LABELS = ("colour", "brightness", "side", "contrast")
SIDE = 64
STEPS = 20
HALF = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Released:
    """A released zoo with the folder that its artifacts were built in."""

    catalog: Catalog
    data: Path
    """Class folders; of their pictures two fall into the dev split."""
    state_dir: Path
    lines: tuple[str, ...]
    """What the release reported."""

    @property
    def zoo(self) -> Zoo:
        return self.catalog.zoos["tiny"]


@pytest.fixture(scope="session")
def pixels() -> NDArray[np.uint8]:
    return enlarge(np.load(PICTURES)["pictures"], SIDE)


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory, pixels: NDArray[np.uint8]) -> Released:
    """Train, export and release `tiny@64`; accuracy is agreement with the trained network."""
    root = tmp_path_factory.mktemp("models")
    (root / "weights" / "tiny").mkdir(parents=True)
    (root / "verify").mkdir()
    copyfile(PICTURES, root / "verify" / "pictures.npz")
    answers = _train_and_export(pixels, root / "weights" / "tiny")
    data = tmp_path_factory.mktemp("data")
    _write_folders(data, pixels, answers)
    catalog = Catalog(root=root, default_zoo="tiny", zoos={})
    labels = tuple(Label(id=name, name=name) for name in LABELS)
    zoo = Zoo(
        title="A zoo for tests",
        labels=labels,
        preprocessing=HALF,
        pictures=describe(catalog, "verify/pictures.npz"),
        checkpoints=(),
        variants=(),
    )
    checkpoint = Checkpoint(
        name="tiny",
        architecture="conv_small_035",
        weights=describe(catalog, "weights/tiny/tiny.safetensors"),
        data="verification pictures",
        command='trained by "conftest.py"',
        seed=0,
        date="2026-01-01",
        card="README.md",
    )
    lines: list[str] = []
    state_dir = tmp_path_factory.mktemp("state")
    sources = Sources(data, data, split="train")
    releaser = Releaser("tiny", sources, state_dir, report=lines.append, largest_loss=1.0)
    empty = catalog.model_copy(update={"zoos": {"tiny": zoo}})
    save_catalog(empty)
    releaser.release(empty, checkpoint, [SIDE])
    return Released(load_catalog(root), data, state_dir, tuple(lines))


def _train_and_export(pixels: NDArray[np.uint8], folder: Path) -> NDArray[np.int64]:
    """Fit four simple properties of the pictures; give back the largest one of each."""
    torch.manual_seed(0)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    left, right = x[..., : SIDE // 2].mean((1, 2, 3)), x[..., SIDE // 2 :].mean((1, 2, 3))
    warmth = x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2))
    wanted = torch.stack([warmth, x.mean((1, 2, 3)), left - right, x.std((1, 2, 3))], 1)
    wanted = 3 * (wanted - wanted.mean(0)) / wanted.std(0)
    model = create_model("conv_small_035", len(LABELS))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.3
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(STEPS):
        optimiser.zero_grad()
        torch.autograd.backward(torch.nn.functional.mse_loss(model(x), wanted))
        optimiser.step()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("batches_tracked")}
    statistics = {k: v for k, v in state.items() if k.endswith(("running_mean", "running_var"))}
    save_file(state, folder / "tiny.safetensors")
    save_file(statistics, folder / f"tiny@{SIDE}.bn.safetensors")
    with torch.no_grad():
        answers: NDArray[np.int64] = model.eval()(x).argmax(1).numpy()
    return answers


def _write_folders(folder: Path, pixels: NDArray[np.uint8], answers: NDArray[np.int64]) -> None:
    for name in LABELS:
        (folder / name).mkdir()
    for number, picture, answer in zip(itertools.count(), pixels, answers, strict=False):
        Image.fromarray(picture).save(folder / LABELS[answer] / f"{number}.png")
