"""Verification: what it accepts, and the faults that it refuses in every precision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save_file
from typing_extensions import override

from mnv4serve.artifacts import Target
from mnv4serve.backends import Backend, probe
from mnv4serve.build import build_artifact
from mnv4serve.build.release import describe
from mnv4serve.build.verify import UNCERTIFIED, Evidence, check, deviation, enlarge, limit
from mnv4serve.catalog import Catalog, Network, Variant, Zoo, load_catalog
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch, CatalogError

from .conftest import Released

TARGETS = [
    Target("tiny@64", BackendName.CPU, Precision.FP32),
    Target("tiny@64", BackendName.CPU, Precision.BF16),
    Target("tiny@64", BackendName.CPU, Precision.INT8),
    Target("tiny@64", BackendName.ONNX, Precision.FP32),
    Target("tiny@64", BackendName.ONNX, Precision.INT8),
]
THEIRS = Network(
    input="image",
    layout="NCHW",
    number="float16",
    output="scores",
    gives="logits",
    precision=Precision.FP32,
)
SHIPPED = load_catalog(Path(__file__).parents[2] / "models")
State = dict[str, torch.Tensor]


class FixedBackend(Backend):
    """Answers every picture with the next row of given logits."""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.logits = logits
        self.given = 0

    @override
    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        start, self.given = self.given, self.given + len(pixels)
        return self.logits[start : self.given]

    @override
    def close(self) -> None:
        pass


def swapped_channels(state: State) -> None:
    state["conv_stem.weight"] = state["conv_stem.weight"].flip(1).contiguous()


def wrong_batch_norm(state: State) -> None:
    """As if the statistics had been taken from darker pictures of less contrast."""
    state["bn1.running_mean"] -= 0.5 * state["bn1.running_var"].sqrt()
    state["bn1.running_var"] *= 0.5


def perturbed_layer(state: State) -> None:
    weights = state["blocks.2.0.pw_exp.conv.weight"]
    noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(1))
    weights += 0.5 * weights.std() * noise


def altered(
    catalog: Catalog, variant: Variant, folder: Path, fault: Callable[[State], None]
) -> Catalog:
    """The catalog with faulty weights and statistics, but the reference of the right ones."""
    name, zoo = catalog.zoo()
    checkpoint = zoo.checkpoint(variant.checkpoint)
    whole = load(catalog.read(checkpoint.weights)) | load(catalog.read(variant.statistics))
    whole = {key: value.float() for key, value in whole.items()}
    fault(whole)
    for file in (checkpoint.weights, variant.statistics, zoo.pictures, variant.reference):
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_bytes(catalog.read(file))
    assert variant.ranges is not None
    (folder / variant.ranges.path).write_bytes(catalog.read(variant.ranges))
    for file in (checkpoint.weights, variant.statistics):
        kept = load(catalog.read(file)).keys()
        save_file({key: whole[key] for key in kept}, folder / file.path)
    moved = Catalog(root=folder, default_zoo=name, zoos={})
    weights = {"weights": describe(moved, checkpoint.weights.path)}
    statistics = {"batch_norm": describe(moved, variant.statistics.path)}
    faulty = zoo.model_copy(
        update={
            "checkpoints": (checkpoint.model_copy(update=weights),),
            "variants": (variant.model_copy(update=statistics),),
        }
    )
    return moved.model_copy(update={"zoos": {name: faulty}})


def with_mean(zoo: Zoo, mean: float) -> Zoo:
    wrong = zoo.preprocessing.model_copy(update={"mean": (mean, mean, mean)})
    return zoo.model_copy(update={"preprocessing": wrong})


def skip_unless_native(target: Target) -> None:
    if target.precision not in probe(target.backend).precisions:
        pytest.skip(f"this processor does not compute {target.precision} natively")


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_accepts_what_was_certified(released: Released, tmp_path: Path, target: Target) -> None:
    """An unaltered artifact passes within twice its certified deviation."""
    skip_unless_native(target)

    artifact = build_artifact(released.catalog, released.zoo, target, state_dir=tmp_path)

    assert artifact.path.is_file()


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("fault", [swapped_channels, wrong_batch_norm, perturbed_layer])
def test_refuses_faulty_networks(
    released: Released, tmp_path: Path, target: Target, fault: Callable[[State], None]
) -> None:
    """Swapped colours, statistics of other pictures and one noisy layer are all refused."""
    skip_unless_native(target)
    catalog = altered(released.catalog, released.zoo.variants[0], tmp_path, fault)

    with pytest.raises(ArtifactMismatch, match="deviates from its reference"):
        build_artifact(catalog, catalog.zoos["tiny"], target, state_dir=tmp_path / "state")

    assert not [path for path in (tmp_path / "state/artifacts").iterdir() if path.is_dir()]


@pytest.mark.parametrize("backend", [BackendName.CPU, BackendName.ONNX])
@pytest.mark.parametrize("fault", [swapped_channels, wrong_batch_norm, perturbed_layer])
def test_refuses_faulty_int8_of_shipped_weights(
    tmp_path: Path, backend: BackendName, fault: Callable[[State], None]
) -> None:
    """The certified int8 limits are sharp enough to tell faults from rounding."""
    catalog, variant = SHIPPED, SHIPPED.zoo()[1].variants[0]
    target = Target(variant.name, backend, Precision.INT8)
    build_artifact(catalog, catalog.zoo()[1], target, state_dir=tmp_path / "good")
    faulty = altered(catalog, variant, tmp_path, fault)

    with pytest.raises(ArtifactMismatch, match="deviates from its reference"):
        build_artifact(faulty, faulty.zoo()[1], target, state_dir=tmp_path / "bad")


@pytest.mark.parametrize("backend", [BackendName.CPU, BackendName.ONNX])
def test_refuses_a_wrong_mean_of_shipped_weights(tmp_path: Path, backend: BackendName) -> None:
    """ImageNet's mean instead of one half is refused, in int8 as well."""
    zoo = SHIPPED.zoo()[1]
    target = Target(zoo.variants[0].name, backend, Precision.INT8)
    wrong = zoo.preprocessing.model_copy(update={"mean": (0.485, 0.456, 0.406)})

    with pytest.raises(ArtifactMismatch, match="deviates from its reference"):
        build_artifact(
            SHIPPED, zoo.model_copy(update={"preprocessing": wrong}), target, state_dir=tmp_path
        )


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_refuses_a_wrong_mean(released: Released, tmp_path: Path, target: Target) -> None:
    """A normalisation that is a tenth of the range off is refused."""
    skip_unless_native(target)

    with pytest.raises(ArtifactMismatch, match="deviates from its reference"):
        build_artifact(released.catalog, with_mean(released.zoo, 0.4), target, state_dir=tmp_path)


def test_refuses_an_unaltered_fault_only(released: Released, tmp_path: Path) -> None:
    """The altered catalog itself is fine: without a fault its artifact passes."""
    catalog = altered(released.catalog, released.zoo.variants[0], tmp_path, lambda _: None)

    built = build_artifact(catalog, catalog.zoos["tiny"], TARGETS[0], state_dir=tmp_path / "state")

    assert built.path.is_file()


def test_deviation_is_relative_to_the_reference() -> None:
    """Equal logits deviate by 0, ignoring the picture by about 1, whatever the scale."""
    reference = np.random.default_rng(0).normal(0, 7, (32, 10)).astype(np.float32)
    ignoring = np.broadcast_to(np.median(reference, axis=0), reference.shape)

    assert deviation(reference, reference) == 0
    assert 0.8 < deviation(ignoring, reference) <= 1
    assert deviation(reference * 100, reference * 101) == pytest.approx(0.01, rel=0.2)


def test_one_enormous_picture_does_not_hide_the_others() -> None:
    """A picture with huge logits neither excuses nor condemns the rest."""
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 1, (32, 10)).astype(np.float32)
    reference[0] *= 1000
    noisy = reference + rng.normal(0, 0.5, reference.shape).astype(np.float32)

    assert deviation(noisy, reference) > 0.3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_is_no_number(bad: float) -> None:
    """Logits that are not finite are refused, however few."""
    logits = np.ones((4, 3), np.float32)
    broken = logits.copy()
    broken[2, 1] = bad
    proof = Evidence(np.zeros((4, 8, 8, 3), np.uint8), logits)

    with pytest.raises(ArtifactMismatch):
        check(FixedBackend(broken), TARGETS[0], proof, allowed=1e9)


def test_refuses_answers_of_another_shape() -> None:
    """An artifact for other labels is refused."""
    proof = Evidence(np.zeros((4, 8, 8, 3), np.uint8), np.ones((4, 3), np.float32))

    with pytest.raises(ArtifactMismatch):
        check(FixedBackend(np.ones((4, 5), np.float32)), TARGETS[0], proof, allowed=1e9)


def test_limit_without_a_certificate(released: Released) -> None:
    """Where nobody measured a deviation, the precision's own limit holds."""
    variant = released.zoo.variants[0].model_copy(update={"certified": ()})

    assert limit(variant, TARGETS[2]) == UNCERTIFIED[Precision.INT8]


def test_networks_of_others_may_hold_half_floats(released: Released) -> None:
    """What counts as full precision then rounds as halves do; other precisions are as ours."""
    variant = released.zoo.variant("tiny@64").model_copy(
        update={"certified": (), "network": THEIRS}
    )
    target = Target("tiny@64", BackendName.ONNX, Precision.FP32)

    assert limit(variant, target) == UNCERTIFIED[Precision.FP16]
    assert limit(variant, TARGETS[1]) == UNCERTIFIED[Precision.BF16]


def test_limit_is_twice_the_certified_deviation(released: Released) -> None:
    """A certificate decides the limit."""
    variant = released.zoo.variants[0]
    certificate = variant.certificate(BackendName.CPU, Precision.INT8)

    assert certificate is not None
    assert limit(variant, TARGETS[2]) == pytest.approx(2 * certificate.deviation)


def test_enlarging_keeps_flat_colours_and_corners() -> None:
    """Bilinear enlargement invents no values outside those of the picture."""
    picture = np.zeros((1, 2, 2, 3), np.uint8)
    picture[0, 1, 1] = 200

    large = enlarge(picture, 64)

    assert large.shape == (1, 64, 64, 3)
    assert large[0, -1, -1].tolist() == [200] * 3
    assert large[0, 0, 0].tolist() == [0] * 3
    assert (np.diff(large[0, -1, :, 0].astype(int)) >= 0).all()


def test_enlarging_to_the_same_size_changes_nothing() -> None:
    """The shipped pictures themselves come out at their own size."""
    picture = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)

    assert np.array_equal(enlarge(picture, 48), picture)


def test_altered_reference_is_noticed(released: Released, tmp_path: Path) -> None:
    """Reference logits that differ from their catalog entry stop the build."""
    catalog = altered(released.catalog, released.zoo.variants[0], tmp_path, lambda _: None)
    (tmp_path / released.zoo.variants[0].reference.path).write_bytes(b"other")

    with pytest.raises(CatalogError, match="differs from its catalog entry"):
        build_artifact(catalog, catalog.zoos["tiny"], TARGETS[0], state_dir=tmp_path / "state")
