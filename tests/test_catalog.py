"""models/ is read as it says, or refused in one sentence."""

import shutil
from pathlib import Path

import pytest

from mnv4serve.catalog import find_models, load_catalog
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models, tmp_path / "models"))


def test_a_variant_tells_its_accuracy_per_artifact(models: Path) -> None:
    """Accuracy belongs to backend and precision, and is None where nothing is known of it."""
    _, zoo = load_catalog(models).zoo()
    variant = zoo.variant("conv_small_035@64")

    assert variant.accuracy(BackendName.CPU, Precision.FP32) == pytest.approx(0.564)
    assert variant.accuracy(BackendName.CPU, Precision.INT8) is None


def test_a_device_where_nobody_measured_takes_floating_point_figures_over(models: Path) -> None:
    """A GPU is used with the accuracy of equal artifacts, marked so; int8 takes none over."""
    _, zoo = load_catalog(models).zoo()
    variant = zoo.variant("conv_small_035@64")

    assert variant.accuracy(BackendName.CUDA, Precision.FP16) == pytest.approx(0.564)
    assert variant.is_taken_over(BackendName.CUDA, Precision.FP16)
    assert not variant.is_taken_over(BackendName.CPU, Precision.FP32)
    assert variant.accuracy(BackendName.CUDA, Precision.INT8) is None
    assert not variant.is_taken_over(BackendName.CUDA, Precision.INT8)


def test_unknown_names_are_answered_by_what_there_is(models: Path) -> None:
    """A misspelt zoo or variant lists the known ones."""
    catalog = load_catalog(models)

    with pytest.raises(CatalogError, match="there are tiny"):
        catalog.zoo("birds")
    with pytest.raises(CatalogError, match="conv_small_035@32, conv_small_035@64"):
        catalog.zoo()[1].variant("huge@512")


def test_an_altered_file_is_refused(models: Path) -> None:
    """Weights whose bytes are not those of the catalog are never used."""
    catalog = load_catalog(models)
    (models / "weights.safetensors").write_bytes(b"other")

    with pytest.raises(CatalogError, match="differs from its catalog entry"):
        catalog.read(catalog.zoo()[1].checkpoints[0].weights)


def test_a_missing_file_is_named(models: Path) -> None:
    """The path that is missing stands in the message."""
    catalog = load_catalog(models)
    (models / "weights.safetensors").unlink()

    with pytest.raises(CatalogError, match=r"weights\.safetensors is missing"):
        catalog.read(catalog.zoo()[1].checkpoints[0].weights)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('default_zoo = "tiny"', "", "default_zoo"),
        ("resolution = 64", "resolution = 65", "resolution"),
        ("accuracy = 0.564", "accuracy = 1.5", "accuracy"),
        ('checkpoint = "conv_small_035"', 'checkpoint = "none"', "names no checkpoint"),
        ("[zoos.tiny]", "[zoos.tiny", "cannot be read"),
        ("seed = 0", "seed = 0\ncolour = 1", "colour"),
    ],
)
def test_a_wrong_catalog_is_one_sentence(models: Path, old: str, new: str, sentence: str) -> None:
    """The key that is wrong is named; nothing is guessed."""
    path = models / "catalog.toml"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")

    with pytest.raises(CatalogError, match=sentence) as caught:
        load_catalog(models)

    assert "\n" not in str(caught.value)


def test_the_folder_is_found_by_flag_then_environment_then_place(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder that was named but holds no catalog is an error, not passed over."""
    monkeypatch.chdir(tmp_path)
    assert find_models(None) == Path("models")

    monkeypatch.setenv("MNV4SERVE_MODELS", str(models))
    assert find_models(None) == models

    with pytest.raises(CatalogError, match=r"holds no catalog\.toml"):
        find_models(tmp_path)
