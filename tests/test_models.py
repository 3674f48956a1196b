"""What models/ ships: complete, small, described, and right about its own example picture."""

from pathlib import Path

import pytest

from mnv4serve.build.findings import load_findings
from mnv4serve.catalog import Catalog, Zoo, load_catalog
from mnv4serve.domain import Precision
from mnv4serve.images import decode, read_header
from mnv4serve.readings import load_readings

MODELS = Path(__file__).parents[1] / "models"
EXAMPLE = MODELS / "examples" / "golf_ball.jpg"
SIZE_LIMIT_BYTES = 60_000_000


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(MODELS)


@pytest.fixture(scope="module")
def zoo(catalog: Catalog) -> Zoo:
    return catalog.zoo("imagenette")[1]


def test_every_catalogued_file_is_there_and_unaltered(catalog: Catalog, zoo: Zoo) -> None:
    """Weights, statistics, ranges, reference logits and pictures have their hashes."""
    files = [zoo.pictures, *(checkpoint.weights for checkpoint in zoo.checkpoints)]
    for variant in zoo.variants:
        files += [variant.statistics, variant.reference]
        files += [variant.ranges] if variant.ranges else []

    assert all(catalog.read(file) for file in files)


def test_nothing_lies_there_that_the_catalog_does_not_name(catalog: Catalog, zoo: Zoo) -> None:
    """Of a released checkpoint no statistics are shipped at resolutions that are not offered."""
    named = {checkpoint.weights.path for checkpoint in zoo.checkpoints}
    released = {checkpoint.name for checkpoint in zoo.checkpoints}
    for variant in zoo.variants:
        named |= {variant.statistics.path, variant.ranges.path if variant.ranges else ""}
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
    """Each variant says what it reaches in all five pairs that need no further runtime."""
    for variant in zoo.variants:
        pairs = {(str(entry.backend), str(entry.precision)) for entry in variant.certified}

        assert {("cpu", "fp32"), ("cpu", "bf16"), ("onnx", "fp32")} <= pairs
        assert {("cpu", "int8"), ("onnx", "int8")} <= pairs


def test_every_figure_is_a_line_of_the_log(catalog: Catalog, zoo: Zoo) -> None:
    """Accuracy, count and split are what the one reading of the artifact says, marks included."""
    readings = load_readings(catalog.root, "imagenette")

    for variant in zoo.variants:
        for entry in variant.certified:
            assert entry.reading is not None
            reading = readings[entry.reading]
            assert (reading.variant, reading.backend) == (variant.name, entry.backend)
            assert (reading.n, reading.split) == (entry.n, entry.split)
            assert reading.mask.bit_count() == reading.right == round(entry.accuracy * entry.n)
            assert sum(right for right, _ in reading.by_label) == reading.right


def test_int8_that_counts_was_shown_to_lose_little(catalog: Catalog, zoo: Zoo) -> None:
    """Every certified int8 artifact lost less than a point on dev, with 95 % confidence."""
    for variant in zoo.variants:
        found = load_findings(catalog.root, "imagenette", variant.checkpoint)
        bounds = {one.backend: one.bound for one in found.variants[variant.name].taken()}
        int8 = [e.backend for e in variant.certified if e.precision is Precision.INT8]

        assert all(bounds[backend] < 0.01 for backend in int8)


def test_temperatures_make_probabilities_no_worse(catalog: Catalog, zoo: Zoo) -> None:
    """Log-loss on dev, which chose them, falls for every variant."""
    for variant in zoo.variants:
        found = load_findings(catalog.root, "imagenette", variant.checkpoint)
        before, after = found.variants[variant.name].log_loss

        assert found.variants[variant.name].temperature == variant.temperature
        assert after <= before


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
    from mnv4serve.build.cards import render  # noqa: PLC0415  # imports torch

    assert (MODELS / "README.md").read_text("utf-8") == render(catalog)


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
