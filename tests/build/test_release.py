"""Releases: reproducible entries, honest figures, a catalog that reads back."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from mnv4serve.build.cards import write_cards
from mnv4serve.build.catalog_file import format_catalog, save_catalog
from mnv4serve.build.findings import load_findings
from mnv4serve.build.ranges import parse_ranges
from mnv4serve.build.release import (
    Releaser,
    Sources,
    calibration_files,
    describe,
    exported_resolutions,
    read_checkpoint,
)
from mnv4serve.build.verify import evidence
from mnv4serve.catalog import load_catalog
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError
from mnv4serve.readings import load_readings

from .conftest import PICTURES, SIDE, Released


def test_every_artifact_is_certified(released: Released) -> None:
    """fp32 agrees with the network that labelled the pictures; each figure has its count."""
    variant = released.zoo.variants[0]

    assert variant.accuracy(BackendName.CPU, Precision.FP32) == 1.0
    assert {entry.n for entry in variant.certified} == {32}
    int8 = variant.certificate(BackendName.ONNX, Precision.INT8)
    assert int8 is not None
    assert 1e-4 < int8.deviation < 0.25
    assert len(released.lines) == len(variant.certified)


def test_the_catalog_reads_back_equal(released: Released, tmp_path: Path) -> None:
    """What is written is what was meant, quotes and all, and writing it again changes nothing."""
    moved = released.catalog.model_copy(update={"root": tmp_path})

    save_catalog(moved)

    assert load_catalog(tmp_path) == moved
    assert (tmp_path / "catalog.toml").read_text() == format_catalog(moved)
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.toml"]


def test_calibration_leaves_the_dev_split_out() -> None:
    """Pictures that choices are made on give no ranges; order and folder do not matter."""
    files = [Path(f"a/{number}.jpg") for number in range(3000)]

    chosen = calibration_files(files)

    assert len(chosen) == 512
    assert [path.name for path in chosen] == [
        path.name for path in calibration_files([Path("b") / f.name for f in reversed(files)])
    ]
    assert len(calibration_files(files[:100])) < 100


def test_missing_weights_are_named(released: Released) -> None:
    """A release of weights that nobody exported says so."""
    with pytest.raises(CatalogError, match=r"nowhere\.safetensors is missing"):
        describe(released.catalog, "weights/nowhere.safetensors")


def test_the_shipped_catalog_is_whole() -> None:
    """Every file that models/ names is there unaltered and fits its variant."""
    catalog = load_catalog(PICTURES.parents[1])
    _, zoo = catalog.zoo()

    for checkpoint in zoo.checkpoints:
        assert catalog.read(checkpoint.weights)
    for variant in zoo.variants:
        assert variant.ranges is not None
        assert "act" in parse_ranges(catalog.read(variant.ranges))
        assert len(evidence(catalog, zoo, variant).logits) == 32
        assert catalog.read(variant.statistics)


def test_shipped_int8_is_about_as_accurate_as_fp32() -> None:
    """Nobody is served an int8 artifact that lost more than a point to rounding."""
    _, zoo = load_catalog(PICTURES.parents[1]).zoo()

    for variant in zoo.variants:
        exact = variant.accuracy(BackendName.CPU, Precision.FP32)
        rounded = variant.accuracy(BackendName.CPU, Precision.INT8)
        assert exact is not None
        assert rounded is not None
        assert rounded > exact - 0.01


def test_the_shipped_pictures_are_the_rendered_ones() -> None:
    """The committed script gives the committed pictures, small enough to ship."""
    script = runpy.run_path(str(PICTURES.with_name("render.py")))
    rng = np.random.default_rng(script["SEED"])
    rendered = np.stack([script["picture"](rng) for _ in range(script["COUNT"])])

    shipped = np.load(PICTURES)["pictures"]

    assert shipped.shape == (32, 48, 48, 3)
    assert np.abs(rendered.astype(int) - shipped).max() <= 1
    assert PICTURES.stat().st_size < 300_000


def test_dev_figures_and_readings_stand_beside_accuracies(released: Released) -> None:
    """Each certificate names its line in the log; the temperature is what dev chose."""
    variant = released.zoo.variants[0]
    readings = load_readings(released.catalog.root, "tiny")

    for entry in variant.certified:
        assert entry.dev is not None
        assert entry.reading is not None
        assert readings[entry.reading].right == round(entry.accuracy * entry.n)
    found = load_findings(released.catalog.root, "tiny", "tiny").variants[variant.name]
    assert found.temperature == variant.temperature != 1.0


def test_a_resolution_that_is_no_better_is_left_out(released: Released, tmp_path: Path) -> None:
    """Only what beats every smaller resolution on dev stays; the rest leaves no file behind."""
    root = Path(shutil.copytree(released.catalog.root, tmp_path / "models"))
    catalog = released.catalog.model_copy(update={"root": root})
    for other in (SIDE + 32, SIDE + 64):
        shutil.copyfile(
            root / f"weights/tiny/tiny@{SIDE}.bn.safetensors",
            root / f"weights/tiny/tiny@{other}.bn.safetensors",
        )
    lines: list[str] = []
    sources = Sources(released.data, released.data, split="train")
    releaser = Releaser("tiny", sources, released.state_dir, lines.append, largest_loss=1.0)

    certified = releaser.certify(catalog, released.zoo.checkpoints[0])

    assert [variant.resolution for variant in certified.zoos["tiny"].variants] == [SIDE]
    assert sum("is left out" in line for line in lines) == 2
    assert not list(root.rglob(f"*@{SIDE + 32}*"))
    assert load_findings(root, "tiny", "tiny").left_out.keys() == {SIDE + 32, SIDE + 64}


def test_a_checkpoint_without_statistics_or_record_is_named(
    released: Released, tmp_path: Path
) -> None:
    """What has to be exported first is said in one sentence."""
    with pytest.raises(CatalogError, match="no nobody@PX"):
        exported_resolutions(released.catalog, "tiny", "nobody")
    root = Path(shutil.copytree(released.catalog.root, tmp_path / "models"))
    (root / "weights/tiny/tiny.json").write_text("{}", "utf-8")
    catalog = released.catalog.model_copy(update={"root": root})
    with pytest.raises(CatalogError, match="no record of training"):
        read_checkpoint(catalog, "tiny", "tiny", data="tiny")


def test_cards_tell_figures_confidence_and_what_people_wrote(
    released: Released, tmp_path: Path
) -> None:
    """Every certified figure has its row; about.md and the checkpoint's note are taken over."""
    root = Path(shutil.copytree(released.catalog.root, tmp_path / "models"))
    (root / "about.md").write_text("# Ours\n\nMade for tests.\n", "utf-8")
    (root / "weights/tiny/tiny.md").write_text("Distilled from nothing.\n", "utf-8")
    catalog = released.catalog.model_copy(update={"root": root})

    text = write_cards(catalog).read_text("utf-8")

    variant = released.zoo.variants[0]
    assert text.startswith("# Ours\n\nMade for tests.\n\n## tiny\n")
    assert "Distilled from nothing." in text
    assert text.count(f"| `{variant.name}` | ") == len(variant.certified) + 1
    assert f"| {variant.temperature:.3f} | " in text
    assert "Least sure of (tiny@64" in text
