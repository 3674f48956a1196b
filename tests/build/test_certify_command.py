"""`mnv4serve certify` as the maintainer runs it: one command from exported weights to cards."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mnv4serve.catalog import load_catalog
from mnv4serve.cli import app
from mnv4serve.errors import CatalogError
from mnv4serve.readings import log_of

from .conftest import SIDE, Released

RECORD = {
    "architecture": "conv_small_035",
    "weights": "last",
    "dev_accuracy": {str(SIDE): 1.0},
    "run": {
        "command": "mnv4serve train pictures --architecture conv_small_035",
        "recipe": {"seed": 3},
        "updated": "2026-02-03T00:00:00+00:00",
        "train_pictures": 30,
        "dev_pictures": 2,
        "curve": [{"dev_accuracy": 0.5}, {"dev_accuracy": 1.0}],
    },
}


@pytest.fixture
def models(released: Released, tmp_path: Path) -> Path:
    """The released zoo with a record of training, in a folder that a test may write to."""
    root = Path(shutil.copytree(released.catalog.root, tmp_path / "models"))
    (root / "weights/tiny/tiny.json").write_text(json.dumps(RECORD), "utf-8")
    return root


@pytest.fixture
def data(released: Released, tmp_path: Path) -> Path:
    """The pictures as train/ and val/."""
    folder = tmp_path / "pictures"
    for split in ("train", "val"):
        shutil.copytree(released.data, folder / split)
    return folder


def test_one_command_renews_catalog_log_and_cards(
    released: Released, models: Path, data: Path
) -> None:
    """Nothing is read a second time; the record of training and the cards are taken up."""
    strangers = next(path for path in (data / "val").iterdir() if any(path.iterdir()))
    before = log_of(models, "tiny").read_bytes()
    flags = ["--data", str(data), "--resolutions", str(SIDE), "--strangers", str(strangers)]
    places = ["--models", str(models), "--state-dir", str(released.state_dir)]

    done = CliRunner().invoke(app, ["certify", "tiny", *flags, *places])

    assert done.exit_code == 0, done.output
    zoo = load_catalog(models).zoos["tiny"]
    assert zoo.checkpoint("tiny").seed == 3
    assert zoo.variants[0].certified
    assert log_of(models, "tiny").read_bytes() == before
    cards = (models / "README.md").read_text("utf-8")
    assert "trained 2026-02-03" in cards
    assert "photos of none of the classes" in cards


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"checkpoint": "nobody"}, "export the weights"),
        ({"--data": "nowhere"}, "is no folder"),
        ({"--strangers": "nowhere"}, "is no folder"),
        ({"--zoo": "birds"}, "unknown zoo"),
    ],
)
def test_what_cannot_be_certified_is_one_sentence(
    models: Path, data: Path, changes: dict[str, str], sentence: str
) -> None:
    """Missing weights, folders and zoos change nothing."""
    options = {"--data": str(data), "--models": str(models), **changes}
    name = options.pop("checkpoint", "tiny")
    before = (models / "catalog.toml").read_bytes()

    done = CliRunner().invoke(
        app, ["certify", name, *(part for pair in options.items() for part in pair)]
    )

    assert isinstance(done.exception, CatalogError)
    assert sentence in str(done.exception)
    assert "\n" not in str(done.exception)
    assert (models / "catalog.toml").read_bytes() == before
