"""Published checkpoints in a zoo of the user's own: named, prepared, pinned and marked right."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mnv4serve.arch.model import create_model
from mnv4serve.artifacts import Target
from mnv4serve.build import build_artifact
from mnv4serve.build.hub import FILE, Fetched, from_folder
from mnv4serve.build.pictures import add_ranges, picture_files
from mnv4serve.build.published import PAPER, TAGS, ZOO, Offer, Tag, chosen, offers
from mnv4serve.build.pull import Puller
from mnv4serve.catalog import Catalog, load_catalog
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BadConfig, CatalogError, HubError, WeightsMismatch

MODELS = Path(__file__).parents[2] / "models"
SIDE = 64
SMALL = "conv_small_050@224"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def write_checkpoint(folder: Path, tag: Tag, *, architecture: str | None = None) -> Path:
    """Weights as the hub has them: a plain folder, timm's names, full precision."""
    torch.manual_seed(0)
    model = create_model(architecture or tag.architecture)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    path = folder / tag.repository.rpartition("/")[2] / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return path


def small(offer: Offer) -> Offer:
    """The same variant at a resolution that takes no time."""
    return replace(offer, resolution=SIDE, variant=f"{offer.tag.architecture}@{SIDE}")


@dataclass
class Source:
    """A folder of checkpoints that remembers what was asked for."""

    folder: Path
    commit: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def __call__(self, tag: Tag, revision: str | None) -> Fetched:
        self.asked.append((tag.name, revision))
        return replace(from_folder(tag.repository, self.folder), revision=self.commit)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "files"
    write_checkpoint(folder, chosen([SMALL])[0].tag)
    return Source(folder, commit="c" * 40)


@pytest.fixture
def puller(tmp_path: Path, source: Source) -> Puller:
    return Puller(tmp_path / "zoos", load_catalog(MODELS), source, report=lambda _: None)


Pull = Callable[[], Catalog]


@pytest.fixture
def pull(puller: Puller) -> Pull:
    return lambda: puller.pull([small(chosen([SMALL])[0])])


def test_every_figure_has_one_name() -> None:
    """The best of an architecture at a resolution is the plain one; no name appears twice."""
    names = [offer.variant for offer in offers()]

    assert len(set(names)) == len(names) == sum(len(tag.figures) for tag in TAGS)
    assert chosen(["conv_small@256"])[0].tag.tag == "e2400_r224_in1k"
    assert chosen(["conv_small.e3600_r256_in1k@256"])[0].accuracy == 0.74534
    assert {offer.resolution for offer in chosen(["conv_medium"])} == {224, 256, 320, 384}


def test_nothing_named_is_the_papers_five() -> None:
    """Each of the paper's models at the resolution that the paper gives."""
    assert [offer.variant for offer in chosen([])] == list(PAPER)


def test_an_unknown_variant_names_those_there_are() -> None:
    """A mistyped name ends in one sentence."""
    with pytest.raises(BadConfig, match=r"no published variant 'conv_smal'; there are conv_la"):
        chosen(["conv_smal"])


@pytest.mark.parametrize(
    ("variant", "crop", "normalisation"),
    [
        ("conv_small_050@224", 0.875, HALF),
        ("conv_small@224", 0.875, IMAGENET),
        ("conv_small@320", 1.0, HALF),
        ("conv_medium@256", 0.95, IMAGENET),
        ("hybrid_large@448", 1.0, IMAGENET),
    ],
)
def test_each_checkpoint_gets_the_pictures_it_wants(
    variant: str, crop: float, normalisation: tuple[object, object]
) -> None:
    """Crop, mean and deviation belong to the checkpoint and the resolution."""
    preprocessing = chosen([variant])[0].preprocessing

    assert (preprocessing.mean, preprocessing.std) == normalisation
    assert (preprocessing.resize, preprocessing.interpolation) == ("shortest", "bicubic")
    assert preprocessing.crop == crop


@pytest.mark.parametrize("variant", PAPER)
def test_the_papers_models_can_be_pulled(variant: str, tmp_path: Path) -> None:
    """All five networks fit timm's names and shapes, and keep their published figure."""
    (offer,) = chosen([variant])
    source = Source(tmp_path / "files")
    write_checkpoint(source.folder, offer.tag)
    puller = Puller(tmp_path / "zoos", load_catalog(MODELS), source, report=lambda _: None)

    catalog = puller.pull([small(offer)])

    _, zoo = load_catalog(catalog.root).zoo(ZOO)
    (pulled,) = zoo.variants
    assert zoo.checkpoint(pulled.checkpoint).architecture == offer.tag.architecture
    assert zoo.preprocessing_of(pulled.name) == offer.preprocessing
    assert pulled.accuracy(BackendName.CPU, Precision.FP32) == offer.accuracy
    assert pulled.is_taken_over(BackendName.CPU, Precision.FP32)
    assert pulled.accuracy(BackendName.CPU, Precision.INT8) is None


def test_labels_have_ids_and_names(pull: Pull) -> None:
    """A thousand different ones, in the order of the outputs."""
    _, zoo = pull().zoo()

    assert len({label.id for label in zoo.labels}) == 1000
    assert len({label.name for label in zoo.labels}) == 1000
    assert [label.id for label in zoo.labels] == sorted(label.id for label in zoo.labels)
    assert (zoo.labels[0].name, zoo.labels[574].name) == ("tench", "golf ball")
    assert zoo.labels[574].id == "n03445777"


def test_pulled_weights_are_pinned(pull: Pull, source: Source) -> None:
    """The commit is written down, and a damaged file is fetched again at that commit."""
    catalog = pull()
    _, zoo = catalog.zoo()
    assert zoo.checkpoints[0].revision == "c" * 40
    weights = catalog.root / zoo.checkpoints[0].weights.path
    weights.unlink()  # it may share its bytes with the source
    weights.write_bytes(b"rot")

    assert pull() == catalog

    assert source.asked == [(zoo.checkpoints[0].name, None), (zoo.checkpoints[0].name, "c" * 40)]
    assert catalog.read(zoo.checkpoints[0].weights)


def test_what_is_there_is_not_pulled_again(pull: Pull, source: Source) -> None:
    """A second pull asks for nothing and changes nothing."""
    first = pull()

    assert pull() == first
    assert len(source.asked) == 1


def test_a_pulled_variant_builds(pull: Pull, tmp_path: Path) -> None:
    """Artifacts are proven equal to the reference, with ImageNet's way of cropping."""
    catalog = pull()
    _, zoo = catalog.zoo()
    target = Target(zoo.variants[0].name, BackendName.ONNX, Precision.FP32)

    assert build_artifact(catalog, zoo, target, state_dir=tmp_path / "state").n_labels == 1000


def test_an_interrupted_pull_keeps_what_is_complete(puller: Puller, source: Source) -> None:
    """Variants before the failure stay in the catalog; without any there is no zoo."""
    with pytest.raises(HubError, match="holds neither"):
        puller.pull(chosen(["conv_medium@256"]))
    assert not (puller.zoos / ZOO / "catalog.toml").exists()
    wanted = [small(chosen([SMALL])[0]), *chosen(["hybrid_large@384"])]

    with pytest.raises(HubError, match="holds neither"):
        puller.pull(wanted)

    _, zoo = load_catalog(puller.zoos / ZOO).zoo()
    assert [variant.name for variant in zoo.variants] == [f"conv_small_050@{SIDE}"]
    assert len(source.asked) == 3


def test_weights_of_another_architecture_are_refused(pull: Pull, source: Source) -> None:
    """The repository and what does not fit are named; no zoo comes of it."""
    tag = chosen([SMALL])[0].tag
    write_checkpoint(source.folder, tag, architecture="conv_small_035")

    with pytest.raises(WeightsMismatch, match=r"r224_in1k is no checkpoint of conv_small_050: "):
        pull()

    assert not (source.folder.parent / "zoos" / ZOO / "catalog.toml").exists()


def test_a_file_that_is_no_safetensors_is_refused(pull: Pull, source: Source) -> None:
    """Nothing else is read, and nothing in it is executed."""
    path = source.folder / chosen([SMALL])[0].tag.repository.rpartition("/")[2] / FILE
    path.write_bytes(b"\x80\x04\x95 a pickle")

    with pytest.raises(WeightsMismatch, match="is not a readable weights file"):
        pull()


def write_pictures(folder: Path, count: int) -> Path:
    """Pictures in two sub-folders, without labels."""
    pictures = np.load(MODELS / "verify" / "pictures.npz")["pictures"]
    for number in range(count):
        path = folder / f"day{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        turned = np.rot90(pictures[number % len(pictures)], number // len(pictures))
        Image.fromarray(np.ascontiguousarray(turned)).save(path)
    return folder


def test_pictures_of_the_user_give_int8(pull: Pull, tmp_path: Path) -> None:
    """Ranges come from unlabelled pictures; files that are none are left out and listed."""
    folder = write_pictures(tmp_path / "pictures", 40)
    (folder / "notes.txt").write_text("no picture")
    catalog = pull()
    _, zoo = catalog.zoo()

    ranged = add_ranges(catalog, zoo.variants[0], picture_files(folder), folder=folder)

    assert ranged.pictures == 40
    assert [path.name for path in ranged.unreadable] == ["notes.txt"]
    _, larger = load_catalog(catalog.root).zoo()
    target = Target(larger.variants[0].name, BackendName.ONNX, Precision.INT8)
    assert build_artifact(ranged.catalog, larger, target, state_dir=tmp_path / "state")


@pytest.mark.parametrize("count", [0, 31])
def test_too_few_pictures_give_no_ranges(pull: Pull, tmp_path: Path, count: int) -> None:
    """Readable ones count; the zoo stays as it was."""
    folder = write_pictures(tmp_path / "pictures", count)
    for number in range(40):
        (folder / f"{number}.txt").parent.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text("no picture")
    catalog = pull()
    _, zoo = catalog.zoo()

    with pytest.raises(CatalogError, match=f"has {count} readable pictures; at least 32"):
        add_ranges(catalog, zoo.variants[0], picture_files(folder), folder=folder)

    assert load_catalog(catalog.root) == catalog


def test_the_label_file_can_be_missing(puller: Puller, tmp_path: Path) -> None:
    """A models/ folder without labels is named, before anything is fetched."""
    bare = tmp_path / "bare"
    copytree(MODELS / "verify", bare / "verify")
    without = replace(puller, shipped=puller.shipped.model_copy(update={"root": bare}))

    with pytest.raises(CatalogError, match=r"imagenet1k\.tsv is missing or broken"):
        without.pull(chosen([SMALL]))
