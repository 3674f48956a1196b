"""Running Google's compiler where it is installed, on a stand-in that prints what it prints."""

import stat
from pathlib import Path

import pytest

from mnv4serve.backends.edgetpu import COMPILED, REASON
from mnv4serve.build.edgetpu_compile import compile_beside, parse_log
from mnv4serve.errors import ArtifactMismatch

LOG = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 502 ms.

Input model: model.tflite
Input size: 2.72MiB
Output model: model_edgetpu.tflite
Output size: 3.13MiB
On-chip memory used for caching model parameters: 2.75MiB
On-chip memory remaining for caching model parameters: 4.16MiB
Off-chip memory used for streaming uncached model parameters: 41.75KiB
Number of Edge TPU subgraphs: 1
Total number of operations: 63
Operation log: model_edgetpu.log

Operator                       Count      Status

ADD                            10         Mapped to Edge TPU
PAD                            5          Mapped to Edge TPU
CONV_2D                        31         Mapped to Edge TPU
MEAN                           1          Mapped to Edge TPU
"""
ON_CPU = LOG.replace(
    "MEAN                           1          Mapped to Edge TPU",
    "MEAN                           1          Operation is otherwise supported, but not mapped",
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"int8")
    return path


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, says: str, exits: int = 0) -> None:
    """A script in the compiler's place that copies its input and prints a log."""
    folder.mkdir()
    (folder / "log").write_text(says, encoding="utf-8")
    script = folder / "edgetpu_compiler"
    copies = f'cp "$4" "$3/{COMPILED}"' if exits == 0 else "true"
    script.write_text(f'#!/bin/sh\n{copies}\ncat "{folder}/log"\nexit {exits}\n', encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_summary_is_understood() -> None:
    """One part, what stays on the chip, what is streamed, nothing left out."""
    report = parse_log(LOG)

    assert report.subgraphs == 1
    assert report.cached_bytes == round(2.75 * 2**20)
    assert report.streamed_bytes == round(41.75 * 2**10)
    assert report.elsewhere == ()


def test_operators_on_the_processor_are_named() -> None:
    """With how many there are, and the compiler's own reason."""
    assert parse_log(ON_CPU).elsewhere == (
        "1 MEAN: Operation is otherwise supported, but not mapped",
    )


def test_another_form_of_log_is_refused() -> None:
    """A compiler that prints something else is not taken at its word."""
    with pytest.raises(ArtifactMismatch, match="another form"):
        parse_log("all fine\n")


def test_a_whole_model_is_compiled(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled file lies beside the one that it was made from."""
    install(tmp_path / "bin", monkeypatch, says=LOG)

    (compiled,) = compile_beside(model)

    assert compiled == tmp_path / COMPILED
    assert compiled.read_bytes() == b"int8"


@pytest.mark.parametrize(
    ("log", "exits", "reason"),
    [
        (ON_CPU, 0, "leaves operators to the processor, 1 MEAN"),
        (LOG.replace("subgraphs: 1", "subgraphs: 2"), 0, "2 parts"),
        ("Internal compiler error. Aborting!\n", 1, "Internal compiler error"),
    ],
)
def test_half_measures_are_refused(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: str,
    exits: int,
    reason: str,
) -> None:
    """Operators on the processor, several parts, a failure: no artifact comes of it."""
    install(tmp_path / "bin", monkeypatch, says=log, exits=exits)

    with pytest.raises(ArtifactMismatch, match=reason):
        compile_beside(model)


def test_without_compiler_the_reason_is_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact is there, marked as uncompiled."""
    monkeypatch.setenv("PATH", str(tmp_path))

    (note,) = compile_beside(model)

    assert note == tmp_path / REASON
    assert "not on PATH" in note.read_text(encoding="utf-8")
