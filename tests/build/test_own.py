"""Zoos of the user's own: named once, written whole, never mixed up with models/."""

from pathlib import Path

import pytest

from mnv4serve.build import own
from mnv4serve.catalog import Catalog, Certified, Published, Zoo, load_catalog, open_catalog
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BadConfig, CatalogError, StorageError

BLUE = ("red", "green", "blue")


@pytest.fixture
def zoos(tmp_path: Path) -> Path:
    return tmp_path / "zoos"


@pytest.fixture
def mine(tiny_models: Path, zoos: Path) -> Catalog:
    """The tiny zoo again, as the user's own under the name `mine`."""
    shipped = load_catalog(tiny_models)
    _, zoo = shipped.zoo()
    empty = zoo.model_copy(update={"checkpoints": (), "variants": ()})
    catalog = own.begin(zoos, "mine", empty, pictures=shipped.read(zoo.pictures))
    for variant in zoo.variants:
        files = {
            "batch_norm": own.put(
                catalog, variant.statistics.path, shipped.read(variant.statistics)
            ),
            "reference": own.put(catalog, variant.reference.path, shipped.read(variant.reference)),
            "certified": (),
            "published": Published(accuracy=0.7, data="elsewhere", source="somebody"),
        }
        checkpoint = zoo.checkpoint(variant.checkpoint)
        weights = own.adopt(catalog, "weights.safetensors", tiny_models / checkpoint.weights.path)
        assert weights.sha256 == checkpoint.weights.sha256
        catalog = own.save(catalog, checkpoint, variant.model_copy(update=files))
    return catalog


def only(catalog: Catalog) -> Zoo:
    return catalog.zoo()[1]


def test_a_zoo_is_found_by_its_name(mine: Catalog, zoos: Path, tiny_models: Path) -> None:
    """models/ comes first, then the user's own; the default stays that of models/."""
    assert open_catalog(tiny_models, zoos, "mine") == mine
    assert open_catalog(tiny_models, zoos, "tiny").root == tiny_models
    assert open_catalog(tiny_models, zoos, None).root == tiny_models


@pytest.mark.usefixtures("mine")
def test_an_unknown_zoo_names_all_there_are(zoos: Path, tiny_models: Path) -> None:
    """One sentence with the zoos of both places and how to get more."""
    with pytest.raises(CatalogError, match=r"there are tiny, mine; `mnv4serve pull imagenet1k`"):
        open_catalog(tiny_models, zoos, "../mine")


def test_nothing_is_a_zoo_before_its_first_variant(tiny_models: Path, zoos: Path) -> None:
    """An interrupted start leaves no zoo that cannot be served."""
    _, zoo = load_catalog(tiny_models).zoo()

    own.begin(zoos, "begun", zoo, pictures=b"pictures")

    with pytest.raises(CatalogError, match="unknown zoo 'begun'"):
        open_catalog(tiny_models, zoos, "begun")


@pytest.mark.parametrize("name", ["", "Mine", "../mine", "a b", "x" * 41, "-x"])
def test_a_bad_name_is_refused(name: str, zoos: Path, tiny_models: Path) -> None:
    """A name is a folder's on every system."""
    with pytest.raises(BadConfig, match="is no name for a zoo"):
        own.check_name(zoos, name, BLUE, shipped=load_catalog(tiny_models))


@pytest.mark.usefixtures("mine")
def test_a_taken_name_is_refused(zoos: Path, tiny_models: Path) -> None:
    """What models/ has, and what has other classes; the same classes may be added to."""
    shipped = load_catalog(tiny_models)

    with pytest.raises(CatalogError, match="tiny is a zoo that comes with mnv4serve"):
        own.check_name(zoos, "tiny", BLUE, shipped=shipped)
    with pytest.raises(CatalogError, match="a zoo mine of other classes already"):
        own.check_name(zoos, "mine", ("red", "blue"), shipped=shipped)
    own.check_name(zoos, "mine", BLUE, shipped=shipped)
    own.check_name(zoos, "new", BLUE, shipped=shipped)


def test_only_zoos_of_ones_own_may_be_written(mine: Catalog, zoos: Path, tiny_models: Path) -> None:
    """models/ stays read-only."""
    assert own.is_own(mine, zoos)
    assert not own.is_own(load_catalog(tiny_models), zoos)


def test_two_commands_lose_nothing(mine: Catalog) -> None:
    """Each adds to the catalog as it is on disk, not as it was when the command began."""
    first, second = only(mine).variants
    checkpoint = only(mine).checkpoints[0]

    own.save(mine, checkpoint, first.model_copy(update={"temperature": 2.0}))
    own.save(mine, checkpoint, second.model_copy(update={"temperature": 3.0}))

    temperatures = [variant.temperature for variant in only(load_catalog(mine.root)).variants]
    assert temperatures == [2.0, 3.0]


def test_a_measured_accuracy_replaces_the_published_one(mine: Catalog) -> None:
    """For the artifact that was measured, and the other floating-point ones take it over."""
    name = only(mine).variants[0].name
    measured = Certified(
        backend=BackendName.CPU,
        precision=Precision.BF16,
        accuracy=0.65,
        n=50_000,
        split="val",
        deviation=0.01,
    )

    own.record(mine, name, measured.model_copy(update={"accuracy": 0.1}))
    own.record(mine, name, measured)

    variant = only(load_catalog(mine.root)).variant(name)
    assert variant.accuracy(BackendName.CPU, Precision.BF16) == 0.65
    assert not variant.is_taken_over(BackendName.CPU, Precision.BF16)
    assert variant.accuracy(BackendName.CPU, Precision.FP32) == 0.65
    assert variant.is_taken_over(BackendName.CPU, Precision.FP32)


def test_a_folder_that_cannot_be_written_is_named(mine: Catalog) -> None:
    """The old file stays, nothing half is left, and the sentence says what to do."""
    (mine.root / "in the way").write_text("a file")

    with pytest.raises(StorageError, match=r"cannot be written.*MNV4SERVE_ZOOS"):
        own.put(mine, "in the way/weights", b"content")

    assert not list(mine.root.rglob("*.part"))


def test_a_variant_is_found_in_any_zoo(mine: Catalog, zoos: Path, tiny_models: Path) -> None:
    """By its name where one zoo has it, with its zoo's where several do."""
    name = only(mine).variants[0].name

    catalog, zoo, variant = own.find_variant(tiny_models, zoos, f"mine/{name}")

    assert (catalog.root, zoo, variant.name) == (mine.root, "mine", name)
    with pytest.raises(CatalogError, match=rf"say tiny/{name} or mine/{name}"):
        own.find_variant(tiny_models, zoos, name)
    with pytest.raises(CatalogError, match="no zoo has a variant conv_huge@1; there are the zoos"):
        own.find_variant(tiny_models, zoos, "conv_huge@1")
