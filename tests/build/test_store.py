"""The store: whole or not at all, one builder at a time, nothing damaged is served."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnv4serve.artifacts import Target, digest_of, find, folder_of
from mnv4serve.build import build_all, build_artifact
from mnv4serve.build.store import PARTIAL, locked, publish
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMissing, StorageError

from .conftest import Released

TARGET = Target("tiny@64", BackendName.ONNX, Precision.FP32)
IR = Target("tiny@64", BackendName.CPU, Precision.FP32)
DIGEST = "0" * 64


def one_file(folder: Path) -> tuple[tuple[Path, ...], float]:
    (folder / "model.onnx").write_bytes(b"model")
    return (folder / "model.onnx",), 0.0


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_a_damaged_artifact_is_rebuilt(released: Released, tmp_path: Path, damage: str) -> None:
    """One flipped bit, a cut file, a missing one or a broken manifest: not found, then built."""
    artifact = build_artifact(released.catalog, released.zoo, TARGET, state_dir=tmp_path)
    good = artifact.path.read_bytes()
    match damage:
        case "flip":
            artifact.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        case "truncate":
            artifact.path.write_bytes(good[:-100])
        case "delete":
            artifact.path.unlink()
        case _:
            artifact.path.with_name("manifest.json").write_text("{")

    assert find(tmp_path, released.zoo, TARGET) is None
    build_artifact(released.catalog, released.zoo, TARGET, state_dir=tmp_path)

    assert find(tmp_path, released.zoo, TARGET) == artifact
    assert artifact.path.read_bytes() == good


def test_an_intact_artifact_is_not_built_again(released: Released, tmp_path: Path) -> None:
    """A second build finds the first one's files; force makes new ones of the same bytes."""
    first = build_artifact(released.catalog, released.zoo, TARGET, state_dir=tmp_path)
    inode, content = first.path.stat().st_ino, first.path.read_bytes()

    second = build_artifact(released.catalog, released.zoo, TARGET, state_dir=tmp_path)
    assert second.path.stat().st_ino == inode

    build_artifact(released.catalog, released.zoo, TARGET, state_dir=tmp_path, force=True)
    assert first.path.stat().st_ino != inode
    assert first.path.read_bytes() == content


def test_a_stale_artifact_is_not_found(released: Released) -> None:
    """Other weights mean another address, so what was built from the old ones is not served."""
    checkpoint = released.zoo.checkpoints[0]
    other = checkpoint.weights.model_copy(update={"sha256": "f" * 64})
    newer = released.zoo.model_copy(
        update={"checkpoints": (checkpoint.model_copy(update={"weights": other}),)}
    )

    assert find(released.state_dir, released.zoo, TARGET) is not None
    assert find(released.state_dir, newer, TARGET) is None


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    """The second waits for the first and finds its work."""
    made = []

    def build() -> None:
        with locked(tmp_path):
            if not (folder_of(tmp_path) / DIGEST).exists():
                made.append(1)
                publish(tmp_path, DIGEST, {}, one_file)

    with ThreadPoolExecutor(4) as builders:
        for future in [builders.submit(build) for _ in range(8)]:
            future.result()

    assert len(made) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path, code: int) -> None:
    """What cannot be written is one clear error, and the folder is as it was before."""

    def full(folder: Path) -> tuple[tuple[Path, ...], float]:
        one_file(folder)
        raise OSError(code, os.strerror(code))

    with pytest.raises(StorageError, match="artifacts"), locked(tmp_path):
        publish(tmp_path, DIGEST, {}, full)

    assert list(folder_of(tmp_path).iterdir()) == []


def test_a_failed_rebuild_keeps_the_old_artifact(tmp_path: Path) -> None:
    """The old files go only once the new ones are complete."""

    def fails(folder: Path) -> tuple[tuple[Path, ...], float]:
        one_file(folder)
        raise OSError(errno.ENOSPC, "full")

    with locked(tmp_path):
        publish(tmp_path, DIGEST, {}, one_file)
    with pytest.raises(StorageError), locked(tmp_path):
        publish(tmp_path, DIGEST, {}, fails)

    assert (folder_of(tmp_path) / DIGEST / "model.onnx").read_bytes() == b"model"


def test_leftovers_of_a_killed_builder_are_swept(tmp_path: Path) -> None:
    """The next builder removes what an earlier one could not finish."""
    leftover = folder_of(tmp_path) / f"{PARTIAL}abc"
    leftover.mkdir(parents=True)
    (leftover / "model.onnx").write_bytes(b"half")

    with locked(tmp_path):
        assert not leftover.exists()


@pytest.mark.parametrize("target", [TARGET, IR], ids=str)
def test_a_file_size_limit_is_a_clear_error(
    released: Released, tmp_path: Path, target: Target
) -> None:
    """Both runtimes' writers are stopped by the system, and nothing is published."""
    script = f"""
import resource, signal
from pathlib import Path
from mnv4serve.artifacts import Target
from mnv4serve.build import build_artifact
from mnv4serve.catalog import load_catalog
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
catalog = load_catalog(Path({str(released.catalog.root)!r}))
target = Target("tiny@64", BackendName("{target.backend}"), Precision.FP32)
try:
    build_artifact(catalog, catalog.zoos["tiny"], target, state_dir=Path({str(tmp_path)!r}))
except StorageError as error:
    print("refused:", error)
"""

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.startswith("refused: ")
    assert list(folder_of(tmp_path).iterdir()) == []


def test_a_state_folder_that_is_a_file_is_a_clear_error(released: Released, tmp_path: Path) -> None:
    """A mistaken --state-dir is named."""
    mistaken = tmp_path / "file"
    mistaken.write_text("")

    with pytest.raises(StorageError, match="cannot be"):
        build_artifact(released.catalog, released.zoo, TARGET, state_dir=mistaken)


def test_without_torch_the_command_is_named(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the build extra is missing the error says what to install and what to run."""
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(ArtifactMissing, match=r"mnv4serve\[build\].*mnv4serve build tiny@64"):
        build_artifact(released.catalog, released.zoo, TARGET, state_dir=tmp_path)


def test_without_torch_what_is_built_is_still_found(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serving needs no torch."""
    monkeypatch.setitem(sys.modules, "torch", None)

    artifact = build_artifact(released.catalog, released.zoo, TARGET, state_dir=released.state_dir)

    assert artifact.digest == digest_of(released.zoo, TARGET)


def test_building_all_goes_on_after_a_refusal(released: Released, tmp_path: Path) -> None:
    """A refused artifact is reported, the others are built, progress counts both."""
    certificates = [
        entry.model_copy(update={"deviation": 0.0}) for entry in released.zoo.variants[0].certified
    ]
    strict = released.zoo.variants[0].model_copy(update={"certified": tuple(certificates)})
    zoo = released.zoo.model_copy(update={"variants": (strict,)})
    int8 = Target("tiny@64", BackendName.ONNX, Precision.INT8)
    steps = []

    built = build_all(
        released.catalog,
        zoo,
        [int8, TARGET],
        state_dir=tmp_path,
        progress=lambda target, done, total: steps.append((str(target), done, total)),
    )

    assert [artifact.precision for artifact in built.artifacts] == [Precision.FP32]
    assert len(built.refused) == 1
    assert steps == [("tiny@64/onnx/int8", 1, 2), ("tiny@64/onnx/fp32", 2, 2)]
