"""The commands as a person runs them: output, exit codes, one sentence for each mistake."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from mnv4serve.cli import app

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]  # of a group
PLACE = re.compile(r"(\{[A-Z]+\}|\[[A-Z]+\])(\.\.\.)?")
"""What stands in a usage line for an argument: needed or not, one or several."""

Environment = dict[str, str]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    buffer = io.BytesIO()
    Image.effect_noise((80, 60), 60).convert("RGB").save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return path


def run(
    environment: Environment, *arguments: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mnv4serve", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def document(done: subprocess.CompletedProcess[str]) -> Any:  # noqa: ANN401  # any JSON
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_frontier_prints_one_document_with_every_arm(tiny_environment: Environment) -> None:
    """`frontier --json` names host and arms and keeps stdout free of anything else."""
    found = document(run(tiny_environment, "frontier", "--json"))

    assert set(found) == {"host", "arms"}
    fields = {"arm", "variant", "backend", "precision", "device", "accuracy"}
    fields |= {"p50_ms", "p99_ms", "resident", "on_frontier"}
    assert all(set(arm) == fields for arm in found["arms"])
    assert any(arm["on_frontier"] for arm in found["arms"])
    assert all(arm["p99_ms"] is None for arm in found["arms"])


def test_frontier_draws_a_plot(tiny_environment: Environment, tmp_path: Path) -> None:
    """The plot is written in the format of its suffix."""
    pytest.importorskip("matplotlib", reason="plots need the plot extra")
    plot = tmp_path / "frontier.svg"

    done = run(tiny_environment, "frontier", "--plot", str(plot))

    assert done.returncode == 0, done.stderr
    assert "<svg" in plot.read_text(encoding="utf-8")


def test_classify_answers_like_the_service(tiny_environment: Environment, photo: Path) -> None:
    """`classify --json` prints the document that POST /classify returns."""
    reply = document(run(tiny_environment, "classify", str(photo), "--json", "--top-k", "2"))

    assert len(reply["predictions"]) == 2
    assert reply["variant"].startswith("conv_small_035@")
    assert reply["budget_ms"] == 100
    assert set(reply["latency_ms"]) == {"total", "wait", "decode", "service", "predicted"}


def test_eval_reports_accuracy_with_its_interval(
    tiny_environment: Environment, photo: Path, tmp_path: Path
) -> None:
    """Class folders named by label are scored; what is no picture is skipped and said."""
    folder = tmp_path / "classes"
    for name in ("red", "green"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.png").write_bytes(photo.read_bytes())
    (folder / "red" / "notes.txt").write_text("no picture", encoding="utf-8")

    done = run(tiny_environment, "eval", str(folder), "--precision", "fp32", "--json")

    found = document(done)
    assert set(found) == {"variant", "backend", "precision", "accuracy", "n", "interval"}
    assert found["n"] == 2
    assert found["accuracy"] in {0.0, 0.5}  # both pictures are the same, so one at most is right
    assert found["interval"][0] <= found["accuracy"] <= found["interval"][1]
    assert "notes.txt" in done.stderr


def test_doctor_tells_why_a_backend_is_not_used(tiny_environment: Environment) -> None:
    """Every backend is listed, those without a reason are available."""
    found = document(run(tiny_environment, "doctor", "--json"))

    by_name = {backend["backend"]: backend for backend in found["backends"]}
    assert set(by_name) == {"cpu", "onnx", "cuda", "edgetpu", "litert"}
    assert all(b["available"] or b["reason"] for b in by_name.values())
    assert by_name["cpu"]["available"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("classify", "absent.jpg"), "absent.jpg cannot be read"),
        (("classify", __file__), f"{__file__}: the body is no picture"),
        (("serve", "--zoo", "birds"), "unknown zoo 'birds'"),
        (("serve", "--models", "/nowhere"), "holds no catalog.toml"),
        (("build", "huge@512"), "unknown variant 'huge@512'"),
        (("build", "--backend", "cuda"), "nothing to build"),
        (("eval", "absent"), "no folder"),
        (("frontier", "--models", "/nowhere"), "holds no catalog.toml"),
        (("train", "absent", "--out", "absent-out"), "absent"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(
    tiny_environment: Environment, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    """No traceback, nothing on stdout, and the sentence says what is wrong."""
    tiny_environment["PYTHONPATH"] = str(Path.cwd())
    done = subprocess.run(
        [sys.executable, "-m", "mnv4serve", *arguments],
        env=tiny_environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("serve", "--config", "absent.yaml"), "absent.yaml cannot be read"),
        (("serve", "--port", "99999"), "configuration port: Input should be less than or equal"),
        (("serve", "--port", "9000"), "must differ"),
        (("frontier", "--plot", "frontier.nonsense"), "cannot be drawn: end its name in .svg"),
        (("train", "absent", "--out", "x", "--architecture", "vgg"), "unknown architecture"),
        (("simulate", "--load", "-1"), "a load of -1"),
    ],
)
def test_a_value_that_can_never_work_is_exit_code_2(
    tiny_environment: Environment, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    """One sentence as well, whichever command it is said to."""
    done = run({**tiny_environment, "PYTHONPATH": str(Path.cwd())}, *arguments, folder=tmp_path)

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--budget"), "--budget"),
        (("classify", __file__, "--budget-ms", "-5"), "must be above 0"),
        (("train", "absent", "--out", "x", "--schedule", "all"), "'all' does not look like"),
        (("distill", "absent", "--out", "x", "--teacher", "x", "--mixture", "D1"), "--mixture"),
        (("certify", "nobody", "--data", "x", "--resolutions", "many"), "--resolutions"),
        (("certify", "nobody", "--data", "x", "--resolutions", "97"), "no multiple of 32"),
        (("certify", "nobody", "--data", "x", "--again", ""), "say the reason"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tiny_environment: Environment, arguments: tuple[str, ...], words: str
) -> None:
    """What cannot be read is answered by the usage, as every command line does."""
    done = run(tiny_environment, *arguments)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Usage: " in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_what_a_command_takes(command: str) -> None:
    """Each place of the usage line is a word in capitals within one pair of brackets."""
    shown = CliRunner().invoke(app, [command, "--help"])

    (usage,) = (line for line in shown.output.splitlines() if "Usage:" in line)
    places = usage.split("[OPTIONS]")[1].split()
    assert shown.exit_code == 0
    assert all(PLACE.fullmatch(place) for place in places), usage


def test_debug_shows_the_traceback(tiny_environment: Environment) -> None:
    """With --debug the cause is there for those who want it."""
    done = run(tiny_environment, "--debug", "classify", "absent.jpg")

    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_missing_artifacts_are_built_by_build(
    tiny_environment: Environment, tmp_path: Path
) -> None:
    """A fresh state folder holds what was asked for afterwards, and nothing else."""
    tiny_environment["MNV4SERVE_STATE_DIR"] = str(tmp_path / "state")

    done = run(
        tiny_environment, "build", "conv_small_035@32", "--backend", "onnx", "--precision", "fp32"
    )

    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "state" / "artifacts").glob("*/manifest.json"))) == 1


def test_a_terminal_without_the_signs_gets_the_table_all_the_same(
    tiny_environment: Environment,
) -> None:
    """Output in ASCII loses the marks, not the table."""
    done = run({**tiny_environment, "PYTHONIOENCODING": "ascii"}, "frontier")

    assert done.returncode == 0, done.stderr
    assert "conv_small_035@64/cpu/fp32/cpu" in done.stdout


def test_a_key_file_that_cannot_be_used_is_one_sentence(
    tiny_environment: Environment, tmp_path: Path
) -> None:
    """TLS is checked before anything listens."""
    config = tmp_path / "tls.yaml"
    config.write_text("tls: {certificate: absent.pem, key: absent.key}\n", encoding="utf-8")

    done = run(
        tiny_environment, "serve", "--port", "0", "--grpc-port", "0", "--config", str(config)
    )

    assert done.returncode == 2
    assert "tls: absent.pem" in done.stderr
    assert "Traceback" not in done.stderr
