"""What models/ ships: complete, small, described, and right about its own example picture."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mnv4serve.catalog import Catalog, Zoo, load_catalog
from mnv4serve.images import decode, read_header

MODELS = Path(__file__).parents[1] / "models"
EXAMPLE = MODELS / "examples" / "golf_ball.jpg"
SIZE_LIMIT_BYTES = 60_000_000


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(MODELS)


@pytest.fixture(scope="module")
def zoo(catalog: Catalog) -> Zoo:
    return catalog.zoo("imagenette")[1]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, MODELS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_catalogued_file_is_there_and_unaltered(catalog: Catalog, zoo: Zoo) -> None:
    """Weights, statistics, ranges, reference logits and pictures have their hashes."""
    files = [zoo.pictures, *(checkpoint.weights for checkpoint in zoo.checkpoints)]
    for variant in zoo.variants:
        files += [variant.batch_norm, variant.reference]
        files += [variant.ranges] if variant.ranges else []

    assert all(catalog.read(file) for file in files)


def test_nothing_lies_there_that_the_catalog_does_not_name(catalog: Catalog, zoo: Zoo) -> None:
    """Of a released checkpoint no statistics are shipped at resolutions that are not offered."""
    named = {checkpoint.weights.path for checkpoint in zoo.checkpoints}
    released = {checkpoint.name for checkpoint in zoo.checkpoints}
    for variant in zoo.variants:
        named |= {variant.batch_norm.path, variant.ranges.path if variant.ranges else ""}
    shipped = {
        str(path.relative_to(catalog.root))
        for path in MODELS.glob("weights/**/*@*")
        if path.name.split("@")[0] in released
    }

    assert shipped <= named


def test_the_weights_stay_small() -> None:
    """A checkout is not a download of its own."""
    total = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())

    assert total < SIZE_LIMIT_BYTES


def test_every_variant_is_certified_for_every_target(zoo: Zoo) -> None:
    """Each variant says what it reaches in all five backend and precision pairs."""
    assert {len(variant.certified) for variant in zoo.variants} == {5}


def test_conv_small_is_useful(zoo: Zoo) -> None:
    """Its best resolution labels well over four fifths of the validation pictures right."""
    best = max(
        entry.accuracy
        for variant in zoo.variants
        if variant.checkpoint == "conv_small"
        for entry in variant.certified
    )

    assert best > 0.85


def test_the_model_cards_are_up_to_date(catalog: Catalog) -> None:
    """README.md is what the catalog and the training records give."""
    pytest.importorskip("torch", reason="parameter counts need torch")

    assert (MODELS / "README.md").read_text("utf-8") == _script("cards").render(catalog)


def test_the_reference_recognises_the_example_picture(catalog: Catalog, zoo: Zoo) -> None:
    """The golf ball that newcomers send is a golf ball at every resolution, with a margin."""
    pytest.importorskip("torch", reason="the reference needs torch")
    from mnv4serve.build.assemble import reference_model  # noqa: PLC0415  # imports torch
    from mnv4serve.build.verify import reference_logits  # noqa: PLC0415

    image = EXAMPLE.read_bytes()
    picture = read_header(image, max_pixels=1 << 40)
    for variant in zoo.variants:
        pixels = decode(
            image, picture, resolution=variant.resolution, preprocessing=zoo.preprocessing
        )
        model = reference_model(catalog, zoo, variant)

        logits = reference_logits(model, pixels[None], zoo.preprocessing)[0]

        first, second = sorted(range(len(logits)), key=lambda i: -logits[i])[:2]
        assert zoo.labels[first].name == "golf ball", variant.name
        assert logits[first] > logits[second] + 0.5, variant.name


def test_the_example_picture_is_rendered_by_its_script() -> None:
    """The committed script makes the committed picture, up to the encoder's version."""
    source = (MODELS / "examples" / "render.py").read_text("utf-8")

    assert EXAMPLE.name in source
