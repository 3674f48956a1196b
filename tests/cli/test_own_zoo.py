"""Three commands from a folder of pictures to answers about them, and what can go wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="training needs torch")

Environment = dict[str, str]
Done = subprocess.CompletedProcess[str]
COLOURS = {"rose": (200, 40, 60), "sunflower": (220, 190, 40), "violet": (110, 60, 200)}
QUICK = ("--epochs", "2", "--schedule", "1:32", "--threads", "1")
FRESH = (*QUICK, "--architecture", "conv_small_035", "--learning-rate", "0.01")


def run(environment: Environment, *arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "mnv4serve", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def write_pictures(folder: Path, *, classes: int = 3, each: int = 20) -> Path:
    """Noise around a colour for each class, and one file that is no picture."""
    random = np.random.default_rng(0)
    for name, colour in list(COLOURS.items())[:classes]:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.normal(colour, 30, (40, 48, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}{number}.png")
    (folder / "rose" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "flowers")


@pytest.fixture(scope="module")
def environment(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Of a person with models/ and an empty home."""
    home = tmp_path_factory.mktemp("home")
    return {
        **os.environ,
        "MNV4SERVE_MODELS": str(tiny_models),
        "MNV4SERVE_STATE_DIR": str(home / "state"),
        "MNV4SERVE_ZOOS": str(home / "zoos"),
        "COLUMNS": "200",
    }


@pytest.fixture(scope="module")
def trained(environment: Environment, folder: Path) -> Done:
    """The first of the three commands, fine-tuning a variant of models/."""
    done = run(
        environment, "train", "--data", str(folder), "--zoo", "flowers",
        "--from", "conv_small_035@32", *QUICK, "--learning-rate", "0.01",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_training_says_what_it_left_out_and_how_to_serve(trained: Done) -> None:
    """Unreadable files are counted and named; each figure has its pictures."""
    assert "skipped 1 unreadable pictures, rose/broken.jpg" in trained.stderr
    assert "`mnv4serve serve --zoo flowers` serves it" in trained.stderr
    assert re.search(r"conv_small_035@32 .* fp32 .* \d+ of flowers dev", trained.stdout)


@pytest.mark.usefixtures("trained")
def test_a_trained_zoo_classifies(environment: Environment, folder: Path) -> None:
    """Answers carry the names of the folders and an accuracy that was measured."""
    picture = folder / "violet" / "violet3.png"

    done = run(environment, "classify", str(picture), "--zoo", "flowers", "--json")

    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert reply["zoo"] == "flowers"
    assert {entry["label"] for entry in reply["predictions"]} == set(COLOURS)
    assert reply["accuracy"] is not None
    assert "accuracy_taken_over" not in reply


@pytest.fixture
def address(trained: Done, environment: Environment) -> Iterator[str]:
    """The second of the three commands, until the test is done."""
    del trained
    command = [sys.executable, "-m", "mnv4serve", "serve", "--zoo", "flowers"]
    command += ["--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        lines = (re.search(r"docs +(http://\S+)/docs", line) for line in server.stdout)
        yield next(found.group(1) for found in lines if found)
        server.send_signal(signal.SIGTERM)
        server.stdout.read()


def test_a_trained_zoo_is_served(address: str, folder: Path) -> None:
    """The third: a picture over HTTP."""
    image = (folder / "rose" / "rose1.png").read_bytes()

    response = httpx.post(f"{address}/classify?budget_ms=1000", content=image)

    assert response.status_code == 200
    assert {entry["label"] for entry in response.json()["predictions"]} == set(COLOURS)


@pytest.mark.usefixtures("trained")
def test_a_second_network_joins_the_zoo(environment: Environment, folder: Path) -> None:
    """The same classes may be trained again: what was there stays."""
    out = Path(environment["MNV4SERVE_STATE_DIR"]) / "second"
    wanted = (*QUICK, "--architecture", "conv_small_050", "--out", str(out))

    done = run(environment, "train", str(folder), "--zoo", "flowers", *wanted)

    assert done.returncode == 0, done.stderr
    for name in ("conv_small_035@32", "conv_small_050@32"):
        assert name in done.stdout


@pytest.mark.usefixtures("trained")
def test_training_again_replaces_the_network(environment: Environment, folder: Path) -> None:
    """Other resolutions, other weights: nothing of the earlier run is served on."""
    wanted = (
        *("--epochs", "1", "--schedule", "1:64", "--threads", "1", "--no-resume"),
        *("--architecture", "conv_small_035"),
    )

    done = run(environment, "train", str(folder), "--zoo", "flowers", *wanted)

    assert done.returncode == 0, done.stderr
    assert "conv_small_035@64" in done.stdout
    assert "conv_small_035@32" not in done.stdout


@pytest.mark.usefixtures("trained")
def test_evaluating_does_not_replace_what_was_held_out(
    environment: Environment, folder: Path
) -> None:
    """Training pictures would flatter: only published figures are replaced."""
    catalog = Path(environment["MNV4SERVE_ZOOS"]) / "flowers" / "catalog.toml"
    before = catalog.read_text("utf-8")

    done = run(environment, "eval", str(folder), "--zoo", "flowers")

    assert done.returncode == 0, done.stderr
    assert catalog.read_text("utf-8") == before


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--zoo", "tiny"), 1, "tiny is a zoo that comes with mnv4serve: choose another name"),
        (("--zoo", "x", "--from", "conv_huge@1"), 1, "no zoo has a variant conv_huge@1"),
        (("--zoo", "My Zoo"), 2, "'My Zoo' is no name for a zoo"),
        (("--zoo", "x", "--architecture", "conv_huge"), 2, "--architecture: unknown architecture"),
        (("--zoo", "x", "--resolutions", "97"), 2, "97 is no multiple of 32"),
        (("--zoo", "x", "--schedule", "1:97"), 2, "--schedule: resolution 97x97 is not"),
        (("--zoo", "x", "--schedule", "0.5:96"), 2, "--schedule: the shares of the schedule must"),
        (("--zoo", "x", "--mixup", "3"), 2, "--mixup: Input should be less than or equal to 1"),
        (("--zoo", "x", "--learning-rate", "0"), 2, "--learning-rate: Input should be greater"),
        (("--zoo", "x", "--plot", "curve.docx"), 2, "curve.docx cannot be drawn: end its name in"),
    ],
)
def test_mistakes_end_in_one_sentence_before_training(
    environment: Environment, folder: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """Nobody trains for hours to learn that the name was taken or a value impossible."""
    done = run(environment, "train", "--data", str(folder), *arguments)

    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (Path(environment["MNV4SERVE_ZOOS"]) / "x" / "catalog.toml").exists()


@pytest.mark.parametrize(
    ("classes", "each", "sentence"),
    [
        (1, 20, "has 1 class folders, training needs at least 2"),
        (2, 2, "holds 5 pictures; training needs at least 10"),
    ],
)
def test_too_little_to_learn_from(
    environment: Environment, tmp_path: Path, classes: int, each: int, sentence: str
) -> None:
    """One class or a handful of pictures: said at once."""
    folder = write_pictures(tmp_path / "few", classes=classes, each=each)

    done = run(environment, "train", "--data", str(folder), "--zoo", "few", *FRESH)

    assert (done.returncode, sentence in done.stderr) == (1, True), done.stderr


def test_pictures_to_judge_by_are_looked_at_before_training(
    environment: Environment, tmp_path: Path
) -> None:
    """A class in val/ that train/ lacks is named before the first epoch."""
    write_pictures(tmp_path / "split" / "train")
    write_pictures(tmp_path / "split" / "val", each=2)
    (tmp_path / "split" / "val" / "dahlia").mkdir()

    done = run(environment, "train", "--data", str(tmp_path / "split"), "--zoo", "split", *FRESH)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'split' / 'val'} holds dahlia, which is no")
    assert not (Path(environment["MNV4SERVE_ZOOS"]) / ".runs" / "split").exists()


def test_few_pictures_and_what_tools_leave_behind_do_not_stand_in_the_way(
    environment: Environment, tmp_path: Path
) -> None:
    """Two dozen pictures make a zoo; hidden folders are no classes, broken links no pictures."""
    folder = write_pictures(tmp_path / "few", each=8)
    shutil.copytree(folder / "violet", folder / ".ipynb_checkpoints")
    (folder / "rose" / "gone.png").symlink_to("nowhere.png")

    done = run(environment, "train", "--data", str(folder), "--zoo", "garden", *FRESH)

    assert done.returncode == 0, done.stderr
    assert "skipped 2 unreadable pictures, rose/broken.jpg first: " in done.stderr
    assert "pictures of dev cannot show that it loses less than 1%" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--zoo", "x"),
        (".", "--data", ".", "--zoo", "x"),
        (".",),
        (".", "--zoo", "x", "--export", "weights"),
    ],
)
def test_wrong_usage_has_its_own_exit_code(
    environment: Environment, arguments: tuple[str, ...]
) -> None:
    """No folder, two folders, nowhere to put the result, or two places."""
    assert run(environment, "train", *arguments).returncode == 2
