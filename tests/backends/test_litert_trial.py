"""Model files of unknown origin are tried where they can do no harm."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from mnv4serve.backends.flatbuffer import Table
from mnv4serve.backends.litert_file import IDENTIFIER
from mnv4serve.backends.litert_trial import trouble

DIES = (sys.executable, "-c", "import os; os.abort()")


def test_a_sound_file_gives_no_trouble(int8_network: Path) -> None:
    """It is loaded and run once."""
    assert trouble(int8_network) == ""


def test_a_file_that_kills_the_runtime_is_survived(int8_network: Path) -> None:
    """The child dies, the caller gets a sentence."""
    assert "by signal 6" in trouble(int8_network, command=DIES)


def test_a_lying_file_is_not_run(int8_network: Path, tmp_path: Path) -> None:
    """What reading finds out needs no trial; missing files are told apart."""
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(int8_network.read_bytes()[:-600])

    assert "end of the file" in trouble(cut, command=DIES)
    assert "cannot be read" in trouble(tmp_path / "none.tflite", command=DIES)


def test_what_the_runtime_refuses_is_passed_on(int8_network: Path, tmp_path: Path) -> None:
    """An operator of a version that no kernel has is refused in the runtime's own words."""
    content = int8_network.read_bytes()
    code = next(Table.root(content, identifier=IDENTIFIER).tables(1))
    place = code._place(2)
    assert place is not None
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(content[:place] + (99).to_bytes(4, "little") + content[place + 4 :])

    assert trouble(wrong).startswith("LiteRT refuses it, ")
