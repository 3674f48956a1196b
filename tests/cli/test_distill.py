"""`mnv4serve distill` as a person runs it, on a tiny zoo and a tiny folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Environment = dict[str, str]
UNEQUAL = "conv_small_035@32,conv_small_035@64"
ANY = ("--teacher", "conv_small_035@32")

pytest.importorskip("torch", reason="training needs torch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three colours, named as the tiny zoo's labels are."""
    random = np.random.default_rng(0)
    for name, colour in (("blue", (0, 0, 200)), ("green", (0, 200, 0)), ("red", (200, 0, 0))):
        target = tmp_path / "data" / name
        target.mkdir(parents=True)
        for number in range(10):
            noise = random.normal(colour, 30, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(target / f"{name}{number}.png")
    (tmp_path / "data" / "red" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "data"


@pytest.fixture
def environment(tiny_models: Path, tmp_path: Path) -> Environment:
    """Of a process that knows the tiny zoo and has built nothing."""
    state_dir = str(tmp_path / "state")
    return {**os.environ, "MNV4SERVE_MODELS": str(tiny_models), "MNV4SERVE_STATE_DIR": state_dir}


def sorted_zoo(models: Path, target: Path) -> Path:
    """The tiny zoo with its labels in the order of their names, as trained networks have them."""
    shutil.copytree(models, target)
    catalog = target / "catalog.toml"
    lines = catalog.read_text(encoding="utf-8").splitlines()
    labels = ", ".join(f'{{id = "{name}", name = "{name}"}}' for name in ("blue", "green", "red"))
    lines = [f"labels = [{labels}]" if line.startswith("labels =") else line for line in lines]
    catalog.write_text("\n".join(lines), encoding="utf-8")
    return target


def distill(
    environment: Environment, folder: Path, out: Path, *extra: str
) -> subprocess.CompletedProcess[str]:
    arguments = ["distill", str(folder), "--out", str(out), "--architecture", "conv_small_035"]
    arguments += ["--epochs", "1", "--batch-size", "4", "--schedule", "1:32", "--threads", "1"]
    arguments += ["--resolutions", "32", "--export", str(out / "weights"), *extra]
    return subprocess.run(
        [sys.executable, "-m", "mnv4serve", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_student_is_trained_exported_and_described(
    environment: Environment, tiny_models: Path, folder: Path, tmp_path: Path
) -> None:
    """Answers, weights and a record that names teacher and sets; broken pictures are counted."""
    models, out = sorted_zoo(tiny_models, tmp_path / "models"), tmp_path / "out"
    options = ["--teacher", "conv_small_035@32", "--models", str(models)]
    options += ["--from", "conv_small_035@64"]

    done = distill(environment, folder, out, *options)

    assert done.returncode == 0, done.stderr
    assert "skipped 1 unreadable pictures, red/broken.png first" in done.stderr
    record = json.loads((out / "weights" / "conv_small_035.json").read_text())
    assert list(record["run"]["curve"][0]["sets"]) == ["D1", "D2"]
    command = record["run"]["command"]
    assert "--from conv_small_035@64 --teacher conv_small_035@32 --mixture D1:1,D2:1" in command
    assert (out / "labels" / "D1.labels").stat().st_size > 0


@pytest.mark.parametrize(
    ("extra", "code", "sentence"),
    [
        (("--teacher", "conv_small_035@32"), 1, "the teacher knows 3 classes from red to blue"),
        (("--teacher", "conv_large@999"), 1, "unknown variant 'conv_large@999'"),
        (("--teacher", UNEQUAL), 2, "--teacher: those that answer together have to share one"),
        ((*ANY, "--mixture", "D1:1,D3:1"), 2, "--mixture: unknown set 'D3'; there are D1, D2"),
        ((*ANY, "--mixture", "D1:1,D1:1"), 2, "--mixture: a mixture names each set once"),
        ((*ANY, "--mixture", "D1:-1,D2:1"), 2, "--mixture: Input should be greater than 0"),
        ((*ANY, "--mixture", "D1:99,D2:1"), 2, "--mixture: each set of a mixture needs at least"),
    ],
)
def test_mistakes_are_one_sentence(
    environment: Environment,
    folder: Path,
    tmp_path: Path,
    extra: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    """A teacher of other classes, one that does not exist, and mixtures that cannot be."""
    done = distill(environment, folder, tmp_path / "out", *extra)

    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
