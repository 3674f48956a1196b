"""Held-out pictures are read once, on the record, and choices are made without them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mnv4serve.artifacts import Target
from mnv4serve.build.judge import Judge, Sources, is_dev
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError
from mnv4serve.readings import append_reading, load_readings, log_of

from .conftest import Released

TARGET = Target("tiny@64", BackendName.CPU, Precision.FP32)


@pytest.fixture
def copied(released: Released, tmp_path: Path) -> Released:
    """The released zoo in a folder that a test may write to."""
    root = Path(shutil.copytree(released.catalog.root, tmp_path / "models"))
    return replace(released, catalog=released.catalog.model_copy(update={"root": root}))


def judge_of(released: Released, lines: list[str], *, again: str | None = None) -> Judge:
    sources = Sources(released.data, released.data, split="train")
    return Judge("tiny", sources, released.state_dir, lines.append, again)


def test_an_artifact_that_was_read_is_not_read_again(copied: Released) -> None:
    """The log answers instead, and says when; not a line is added."""
    lines: list[str] = []
    before = log_of(copied.catalog.root, "tiny").read_bytes()

    reading = judge_of(copied, lines).on_held_out(copied.catalog, TARGET, 1.0)

    assert (reading.right, reading.n) == (32, 32)
    assert "already" in lines[0]
    assert log_of(copied.catalog.root, "tiny").read_bytes() == before


def test_reading_again_needs_a_reason_that_stays(copied: Released) -> None:
    """With one, the pictures are read and the new line carries it; the old line stays."""
    before = log_of(copied.catalog.root, "tiny").read_text("utf-8")

    reading = judge_of(copied, [], again="a test").on_held_out(copied.catalog, TARGET, 2.0)

    after = log_of(copied.catalog.root, "tiny").read_text("utf-8")
    assert reading.again == "a test"
    assert after.startswith(before)
    assert len(after.splitlines()) == len(before.splitlines()) + 1
    assert reading.by_label
    assert reading.calibration_error is not None


def test_a_reading_that_kept_no_answers_is_not_repeated_in_silence(copied: Released) -> None:
    """It cannot be compared in pairs, and the way out is named."""
    known = next(iter(load_readings(copied.catalog.root, "tiny").values()))
    bare = known.model_copy(update={"marks": None, "pictures": None})
    append_reading(copied.catalog.root, "tiny", bare)
    target = Target(known.variant, known.backend, known.precision)

    with pytest.raises(CatalogError, match="--again"):
        judge_of(copied, []).on_held_out(copied.catalog, target, 1.0)


def test_strangers_have_no_labels(copied: Released) -> None:
    """Every picture of a plain folder is answered."""
    folder = next(path for path in copied.data.iterdir() if any(path.iterdir()))

    score = judge_of(copied, []).on_strangers(copied.catalog, TARGET, folder)

    assert score.n == len(list(folder.iterdir()))


def test_without_held_out_pictures_dev_is_judged(released: Released, tmp_path: Path) -> None:
    """The split of the file names takes their place; a folder without any of it is refused."""
    labels = released.zoo.labels
    sources = Sources(released.data, None, split="tiny dev")

    held_out = sources.held_out(labels)

    assert held_out == sources.dev(labels)
    assert {path.name for path, _ in held_out} == {"7.png", "29.png"}
    (tmp_path / labels[0].id).mkdir()
    (tmp_path / labels[0].id / "1.png").write_bytes(b"")
    assert not is_dev(Path("1.png"))
    with pytest.raises(CatalogError, match="too few"):
        Sources(tmp_path, None, split="tiny dev").dev(labels)


def test_unreadable_pictures_are_told_once(copied: Released, tmp_path: Path) -> None:
    """Whoever certifies knows what a figure leaves out, without a line for each artifact."""
    held_out, lines = Path(shutil.copytree(copied.data, tmp_path / "data")), list[str]()
    (held_out / copied.zoo.labels[0].id / "torn.png").write_bytes(b"no picture")
    judge = replace(
        judge_of(copied, lines, again="a test"), sources=Sources(held_out, held_out, "")
    )

    for backend in (BackendName.CPU, BackendName.ONNX):
        judge.on_held_out(copied.catalog, replace(TARGET, backend=backend), 1.0)

    assert [line for line in lines if "left out" in line] == [
        "left out 1 unreadable pictures: torn.png"
    ]
