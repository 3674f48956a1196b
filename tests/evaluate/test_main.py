import sys
from pathlib import Path

import pytest

from loadtests.evaluate import __main__ as program
from loadtests.evaluate.jitter import overrun
from loadtests.evaluate.records import Findings
from tests.evaluate.made_up import runs


def called(monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["evaluate", *flags])
    return program.main()


def test_a_report_is_made_again_from_its_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No run is needed to render."""
    Findings(results=[*runs("priced", 0.8), *runs("ramsis", 0.7)]).save(tmp_path / "old.json")

    code = called(
        monkeypatch, "--render", str(tmp_path / "old.json"), "--out", str(tmp_path / "new")
    )

    assert code == 0
    assert "ramsis" in (tmp_path / "new.html").read_text("utf-8")


def test_a_file_without_figures_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit code 1."""
    (tmp_path / "other.json").write_text("[]", "utf-8")

    with pytest.raises(SystemExit) as stopped:
        called(monkeypatch, "--render", str(tmp_path / "other.json"))

    assert stopped.value.code == 1
    assert "holds no figures" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("flags", [("--requests", "3"), ("--seeds", "0"), ("--jobs", "0")])
def test_amounts_that_make_no_sense_are_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, str]
) -> None:
    """Zero or negative amounts end with exit code 2 and a sentence."""
    assert called(monkeypatch, *flags) == 2


def test_overrun_is_what_an_act_took_too_long() -> None:
    """Nothing asked for and nothing done takes next to nothing, and never less than that."""
    assert overrun(0.0, lambda _: None) >= 0.0
