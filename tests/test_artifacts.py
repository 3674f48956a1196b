"""Addresses of artifacts, and what a host can have built."""

import json
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mnv4serve import artifacts
from mnv4serve.artifacts import (
    Target,
    available_targets,
    digest_of,
    find,
    folder_of,
    ingredients_of,
    read_manifest,
    unfit,
)
from mnv4serve.backends import Availability
from mnv4serve.catalog import Checkpoint, File, Label, Preprocessing, Variant, Zoo
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BackendUnavailable, CatalogError

TARGET = Target("small@64", BackendName.CPU, Precision.FP32)
INT8 = Target("small@64", BackendName.CPU, Precision.INT8)

Model = TypeVar("Model", Checkpoint, Variant, Preprocessing)


def file(digit: str) -> File:
    return File(path=digit, sha256=digit * 64)


def zoo(**changes: Any) -> Zoo:  # noqa: ANN401
    """A zoo whose files need not exist; changes go to whatever has such a field."""
    checkpoint = Checkpoint(
        name="small",
        architecture="conv_small",
        weights=file("1"),
        data="data",
        command="train",
        seed=0,
        date="2026-01-01",
        card="README.md",
    )
    variant = Variant(
        name="small@64",
        checkpoint="small",
        resolution=64,
        batch_norm=file("2"),
        ranges=file("3"),
        reference=file("4"),
    )
    preprocessing = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def changed(model: Model) -> Model:
        fields = type(model).model_fields
        return model.model_copy(update={k: v for k, v in changes.items() if k in fields})

    return Zoo(
        title="zoo",
        labels=changes.get("labels", (Label(id="a", name="a"), Label(id="b", name="b"))),
        preprocessing=changed(preprocessing),
        pictures=changes.get("pictures", file("5")),
        checkpoints=(changed(checkpoint),),
        variants=(changed(variant),),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"weights": file("a")},
        {"batch_norm": file("a")},
        {"ranges": file("a")},
        {"reference": file("a")},
        {"pictures": file("a")},
        {"architecture": "conv_small_050"},
        {"resolution": 96},
        {"mean": (0.5, 0.5, 0.4)},
        {"std": (0.5, 0.5, 0.4)},
        {"labels": (Label(id="a", name="a"),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_ingredient_changes_the_address(change: dict[str, Any]) -> None:
    """An artifact made from anything else lies somewhere else."""
    assert digest_of(zoo(**change), INT8) != digest_of(zoo(), INT8)


def test_backend_and_precision_change_the_address() -> None:
    """The artifacts of one variant do not collide."""
    targets = [
        Target("small@64", backend, precision)
        for backend in (BackendName.CPU, BackendName.ONNX)
        for precision in (Precision.FP32, Precision.INT8)
    ]

    assert len({digest_of(zoo(), target) for target in targets}) == len(targets)


def test_what_does_not_matter_keeps_the_address() -> None:
    """Ranges are no ingredient of fp32, nor is a model card of anything."""
    assert digest_of(zoo(ranges=file("a")), TARGET) == digest_of(zoo(), TARGET)
    assert digest_of(zoo(card="other.md", date="2027-01-01"), INT8) == digest_of(zoo(), INT8)


def test_the_runtime_is_an_ingredient() -> None:
    """A proof made with one runtime version does not hold for the next."""
    assert str(ingredients_of(zoo(), TARGET)["runtime"]).startswith("openvino ")


def test_int8_without_ranges_is_refused() -> None:
    """A variant that offers no int8 says so."""
    with pytest.raises(CatalogError, match="no quantisation ranges"):
        digest_of(zoo(ranges=None), INT8)


def test_a_backend_without_runtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no address for what nothing here could run."""
    absent = {**artifacts.RUNTIMES, BackendName.CUDA: ("no-such-distribution",)}
    monkeypatch.setattr(artifacts, "RUNTIMES", absent)

    with pytest.raises(BackendUnavailable, match="cuda"):
        digest_of(zoo(), Target("small@64", BackendName.CUDA, Precision.FP16))


def test_a_compiler_makes_another_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once Google's compiler is installed, Edge TPU artifacts are built anew, others not."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    targets = [
        Target("small@64", backend, Precision.INT8)
        for backend in (BackendName.EDGETPU, BackendName.LITERT)
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    before = [digest_of(zoo(), target) for target in targets]
    (tmp_path / "edgetpu_compiler").touch(mode=0o755)

    after = [digest_of(zoo(), target) for target in targets]

    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]


def test_what_was_compiled_elsewhere_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact made where there is a compiler serves on a machine that has none."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    target = Target("small@64", BackendName.EDGETPU, Precision.INT8)
    monkeypatch.setenv("PATH", str(tmp_path))
    digest = digest_of(zoo(), target, compiled=True)
    folder = folder_of(tmp_path) / digest
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(b"int8")
    stored = artifacts.describe_file(folder / "model.tflite")
    manifest = artifacts.Manifest(digest=digest, ingredients={}, files=(stored,), deviation=0.0)
    (folder / artifacts.MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")

    found = find(tmp_path, zoo(), target)

    assert found is not None
    assert found.digest == digest != digest_of(zoo(), target)


def test_an_empty_state_folder_holds_nothing(tmp_path: Path) -> None:
    """Before the first build there is nothing to find, and nothing is created."""
    assert find(tmp_path / "state", zoo(), TARGET) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "files", [[], [{"name": "../../secret", "n_bytes": 1, "sha256": "0" * 64}]], ids=["none", "out"]
)
def test_a_manifest_that_proves_nothing_is_not_believed(
    tmp_path: Path, files: list[dict[str, Any]]
) -> None:
    """An artifact without files, or with files that are not its own, is not there."""
    digest = digest_of(zoo(), TARGET)
    folder = folder_of(tmp_path) / digest
    folder.mkdir(parents=True)
    manifest = {"digest": digest, "ingredients": {}, "deviation": 0.0, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    assert find(tmp_path, zoo(), TARGET) is None


def test_a_manifest_of_another_artifact_is_not_believed(tmp_path: Path) -> None:
    """A folder that was copied to another address is not served from there."""
    folder = folder_of(tmp_path) / digest_of(zoo(), TARGET)
    folder.mkdir(parents=True)
    (folder / "model.xml").write_bytes(b"")
    entry = {"name": "model.xml", "n_bytes": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb924" * 2}
    manifest = {"digest": "0" * 64, "ingredients": {}, "deviation": 0.0, "files": [entry]}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    assert read_manifest(folder) is not None
    assert find(tmp_path, zoo(), TARGET) is None


def probe(backend: BackendName, *precisions: Precision, available: bool = True) -> Availability:
    return Availability(backend, available, "runtime", ("cpu",), precisions)


def test_targets_follow_the_processor() -> None:
    """bf16 is built only where it is native, a missing backend gives nothing."""
    probes = [
        probe(BackendName.CPU, Precision.FP32, Precision.INT8),
        probe(BackendName.ONNX, Precision.FP32, Precision.INT8, available=False),
    ]

    targets = available_targets(zoo().variants[0], probes)

    assert [str(target) for target in targets] == ["small@64/cpu/fp32", "small@64/cpu/int8"]


def test_attention_has_no_place_where_only_convolutions_are_computed() -> None:
    """Hybrid networks are left out on litert and edgetpu with the reason, on others not."""
    plain = zoo()
    hybrid = plain.model_copy(
        update={
            "checkpoints": (
                plain.checkpoints[0].model_copy(update={"architecture": "hybrid_medium"}),
            )
        }
    )

    for backend in (BackendName.LITERT, BackendName.EDGETPU):
        assert "attention" in unfit(hybrid, Target("small@64", backend, Precision.INT8))
        assert unfit(plain, Target("small@64", backend, Precision.INT8)) == ""
    assert unfit(hybrid, Target("small@64", BackendName.ONNX, Precision.INT8)) == ""


def test_targets_leave_int8_out_without_ranges() -> None:
    """A variant without ranges is served in the float precisions."""
    probes = [probe(BackendName.CPU, Precision.FP32, Precision.BF16, Precision.INT8)]

    targets = available_targets(zoo(ranges=None).variants[0], probes)

    assert [target.precision for target in targets] == [Precision.FP32, Precision.BF16]
