"""`mnv4serve pull`, and what a person does with a pulled zoo: look, measure, add int8."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="pulled weights are checked with torch")

Environment = dict[str, str]
Done = subprocess.CompletedProcess[str]
MODELS = Path(__file__).parents[2] / "models"
VARIANT = "conv_small_050@224"
ZOO = ("--zoo", "imagenet1k")


def run(environment: Environment, *arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "mnv4serve", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Of a person with an empty home and no way to the hub."""
    home = tmp_path_factory.mktemp("home")
    return {
        **os.environ,
        "MNV4SERVE_MODELS": str(MODELS),
        "MNV4SERVE_STATE_DIR": str(home / "state"),
        "MNV4SERVE_ZOOS": str(home / "zoos"),
        "HF_HOME": str(home / "huggingface"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="module")
def pulled(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One variant from a plain folder of files."""
    from safetensors.torch import save_file  # noqa: PLC0415  # needs torch

    from mnv4serve.arch.model import create_model  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    model = create_model("conv_small_050")
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    name = "mobilenetv4_conv_small_050.e3000_r224_in1k.safetensors"
    save_file(model.state_dict(), folder / name)
    return run(environment, "pull", "imagenet1k", VARIANT, "--folder", str(folder))


def arms(environment: Environment) -> dict[str, dict[str, object]]:
    done = run(environment, "frontier", "--json", *ZOO)
    assert done.returncode == 0, done.stderr
    return {arm["arm"]: arm for arm in json.loads(done.stdout)["arms"]}


def write_classes(folder: Path, ids: list[str]) -> Path:
    """One small picture of each class."""
    for number, name in enumerate(ids):
        (folder / name).mkdir(parents=True)
        colour = (number % 256, number // 4, 128)
        Image.new("RGB", (24, 24), colour).save(folder / name / f"{number}.png")
    return folder


def test_a_pulled_variant_is_built_and_marked(pulled: Done, environment: Environment) -> None:
    """The published accuracy is used, and said to be published."""
    assert pulled.returncode == 0, pulled.stderr
    assert f"{VARIANT} from timm/mobilenetv4_conv_small_050" in pulled.stderr
    assert "published, not measured here" in pulled.stderr

    exact = arms(environment)[f"{VARIANT}/cpu/fp32/cpu"]

    assert (exact["accuracy"], exact["accuracy_taken_over"]) == (0.64778, True)


@pytest.mark.usefixtures("pulled")
def test_measuring_takes_the_published_figures_place(
    environment: Environment, tmp_path: Path
) -> None:
    """Once all classes are there; a few would say nothing of the others."""
    wanted = (*ZOO, "--backend", "onnx", "--precision", "fp32")
    few = write_classes(tmp_path / "few", ["n01440764", "n03445777"])
    done = run(environment, "eval", str(few), *wanted)
    assert "keeps its accuracy: few shows 2 of 1000 classes" in done.stderr
    assert arms(environment)[f"{VARIANT}/onnx/fp32/cpu"]["accuracy_taken_over"]
    lines = (MODELS / "labels" / "imagenet1k.tsv").read_text("utf-8").splitlines()
    ids = [line.split("\t")[0] for line in lines if not line.startswith("#")]

    done = run(environment, "eval", str(write_classes(tmp_path / "all", ids)), *wanted, "--json")

    assert done.returncode == 0, done.stderr
    found = arms(environment)
    measured = found[f"{VARIANT}/onnx/fp32/cpu"]
    assert measured["accuracy"] == json.loads(done.stdout)["accuracy"]
    assert "accuracy_taken_over" not in measured
    assert found[f"{VARIANT}/cpu/fp32/cpu"]["accuracy_taken_over"]


@pytest.mark.usefixtures("pulled")
def test_pictures_of_ones_own_give_int8(environment: Environment, tmp_path: Path) -> None:
    """Ranges come from them, which is said; how accurate int8 is nobody knows yet."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, pixels in enumerate(np.load(MODELS / "verify" / "pictures.npz")["pictures"]):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")

    done = run(environment, "build", VARIANT, *ZOO, "--pictures", str(folder))

    assert f"int8 of {VARIANT}: ranges from 32 pictures of {folder}" in done.stderr
    assert f"left out 1 unreadable files: {folder / 'notes.txt'}" in done.stderr
    assert arms(environment)[f"{VARIANT}/onnx/int8/cpu"]["accuracy"] is None


def test_what_is_taken_over_is_listed(environment: Environment) -> None:
    """Names, sizes and figures, without any network."""
    done = run(environment, "pull", "imagenet1k", "--list")

    assert done.returncode == 0, done.stderr
    assert "hybrid_large@384" in done.stdout
    assert "0.8400" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("pull", "imagenet21k"), 2, "weights for imagenet1k only, not for 'imagenet21k'"),
        (("pull", "imagenet1k", "conv_tiny"), 2, "no published variant 'conv_tiny'; there are"),
        (("pull", "imagenet1k", "--folder", "/nowhere"), 1, "/nowhere holds neither mobilenetv4_"),
        (("pull", "imagenet1k"), 1, "http://127.0.0.1:9 cannot be reached"),
        (("build", "--pictures", "."), 1, "imagenette ships its ranges; --pictures is for zoos"),
        (("serve", "--zoo", "imagenet9"), 1, "unknown zoo 'imagenet9'; there are imagenette"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    environment: Environment, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """The sentence says what to do; what will never be there is wrong usage."""
    done = run(environment, *arguments)

    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_offline_mode_is_honoured(environment: Environment) -> None:
    """Nobody is asked where the environment forbids it."""
    done = run({**environment, "HF_HUB_OFFLINE": "1"}, "pull", "imagenet1k")

    assert done.returncode == 1
    assert "HF_HUB_OFFLINE forbids to fetch it" in done.stderr
