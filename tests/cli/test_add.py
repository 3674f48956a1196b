"""From somebody else's file to answers, and what can go wrong on the way."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("onnx", reason="reading ONNX files needs onnx")
pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

import onnx

from tests.build.foreign.networks import COLOURS, write_onnx, write_pictures
from tests.build.foreign.tflite_networks import write_tflite

Environment = dict[str, str]
Done = subprocess.CompletedProcess[str]


def run(environment: Environment, *arguments: object) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "mnv4serve", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("\n".join(COLOURS) + "\n", "utf-8")
    return path


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
def measured(
    environment: Environment, labels: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """An ONNX network joined with pictures at hand."""
    path = write_onnx(tmp_path_factory.mktemp("theirs") / "Their Net.onnx", batch=1)
    return run(
        environment, "add", path, "--labels", labels, "--zoo", "colours",
        "--pictures", pictures, "--json",
    )  # fmt: skip


@pytest.fixture(scope="module")
def joined(
    environment: Environment, measured: Done, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """A quantised network with a background class that joins it without pictures."""
    assert measured.returncode == 0, measured.stderr
    path = tmp_path_factory.mktemp("theirs") / "quant.tflite"
    write_tflite(path, number="uint8", background=True, softmax=True)
    return run(environment, "add", path, "--zoo", "colours")


def test_the_entry_it_wrote_is_printed(measured: Done) -> None:
    """How pictures are prepared, what the network takes, and what it achieved as served."""
    assert measured.returncode == 0, measured.stderr
    entry = json.loads(measured.stdout)

    assert entry["name"] == "Their-Net@32"
    assert entry["zoo"] == "colours"
    assert entry["network"]["layout"] == "NCHW"
    assert entry["network"]["batch"] == 1
    assert set(entry["preprocessing"]) == {"resize", "crop", "interpolation", "mean", "std"}
    found = {(one["backend"], one["precision"]): one["accuracy"] for one in entry["certified"]}
    assert found[("onnx", "fp32")] == 1.0
    assert found[("cpu", "fp32")] == 1.0


def test_reasons_are_told(measured: Done, joined: Done) -> None:
    """Each guess says what it was made from."""
    assert "NCHW, from its input [1, 3, 32, 32]" in measured.stderr
    assert "of 12 pictures right: " in measured.stderr
    assert joined.returncode == 0, joined.stderr
    assert "label offset 1: 4 outputs for 3 labels" in joined.stderr
    assert "probabilities: it ends in Softmax" in joined.stderr
    assert "used only when named" in joined.stderr


@pytest.mark.usefixtures("joined")
def test_one_of_unknown_accuracy_answers_only_when_named(
    environment: Environment, pictures: Path
) -> None:
    """Without a pin the measured one answers; probabilities are those of the file."""
    picture = pictures / "green" / "1.png"

    free = run(environment, "classify", picture, "--zoo", "colours", "--json")
    pinned = run(
        environment, "classify", picture, "--zoo", "colours", "--variant", "quant@32", "--json"
    )

    reply, other = json.loads(free.stdout), json.loads(pinned.stdout)
    assert reply["variant"] == "Their-Net@32"
    assert reply["predictions"][0]["label"] == "green"
    assert (other["variant"], other["backend"], other["accuracy"]) == ("quant@32", "litert", None)
    assert other["predictions"][0]["label"] == "green"
    assert sum(one["probability"] for one in other["predictions"]) == pytest.approx(1, abs=1e-4)


@pytest.fixture
def address(joined: Done, environment: Environment) -> Iterator[str]:
    """The zoo while it is served."""
    del joined
    command = [sys.executable, "-m", "mnv4serve", "serve", "--zoo", "colours"]
    command += ["--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        lines = (re.search(r"docs +(http://\S+)/docs", line) for line in server.stdout)
        yield next(found.group(1) for found in lines if found)
        server.send_signal(signal.SIGTERM)
        server.stdout.read()


def test_all_arms_are_served(address: str, pictures: Path) -> None:
    """The frontier holds them, and each backend gives the right label."""
    image = (pictures / "blue" / "2.png").read_bytes()

    arms = {arm["arm"] for arm in httpx.get(f"{address}/frontier").json()["arms"]}
    labels = {
        backend: httpx.post(
            f"{address}/classify?budget_ms=1000&backend={backend}", content=image
        ).json()["predictions"][0]["label"]
        for backend in ("cpu", "onnx", "litert")
    }

    assert {"Their-Net@32/onnx/fp32/cpu", "quant@32/litert/int8/cpu"} <= arms
    assert set(labels.values()) == {"blue"}


@pytest.mark.usefixtures("joined")
def test_measuring_later_makes_it_routed(environment: Environment, pictures: Path) -> None:
    """`eval` writes down what nobody knew."""
    done = run(environment, "eval", pictures, "--zoo", "colours", "--variant", "quant@32", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] == 1.0
    assert "quant@32/litert/int8/cpu is routed by 1.0000 from now on" in done.stderr


def test_a_file_that_cannot_be_served_leaves_nothing(
    environment: Environment, labels: Path, tmp_path: Path
) -> None:
    """One sentence, exit code 1, no zoo."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(np.random.default_rng(0).bytes(2000))

    done = run(environment, "add", path, "--labels", labels, "--zoo", "none")
    after = run(environment, "classify", path, "--zoo", "none")

    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {path} is no ONNX file")
    assert "Traceback" not in done.stderr
    assert "unknown zoo 'none'" in after.stderr


def test_a_network_that_answers_always_the_same_is_told(
    environment: Environment, labels: Path, tmp_path: Path
) -> None:
    """It is kept: it may be wanted for its speed alone."""
    path = write_onnx(tmp_path / "constant.onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "kernel":
            tensor.raw_data = bytes(len(tensor.raw_data))
    onnx.save(model, path)

    done = run(environment, "add", path, "--labels", labels)

    assert "it answers the same to every picture" in done.stderr
    assert done.returncode == 0, done.stderr


def test_a_zoo_of_unknown_accuracy_asks_for_a_name(
    environment: Environment, labels: Path, pictures: Path, tmp_path: Path
) -> None:
    """Nothing is routed by an accuracy that nobody measured; the sentence says what to do."""
    path = write_onnx(tmp_path / "alone.onnx")
    added = run(environment, "add", path, "--labels", labels)

    done = run(environment, "classify", pictures / "red" / "0.png", "--zoo", "alone")

    assert added.returncode == 0, added.stderr
    assert done.returncode == 1
    assert "one has to be named: alone@32/" in done.stderr


@pytest.mark.usefixtures("measured")
def test_labels_that_do_not_fit_are_refused(environment: Environment, tmp_path: Path) -> None:
    """Those of another zoo, too many for the network, or none at all."""
    path = write_onnx(tmp_path / "theirs.onnx")
    other = tmp_path / "other.txt"
    other.write_text("cat\ndog\nfox\n", "utf-8")
    many = tmp_path / "many.txt"
    many.write_text("\n".join(map(str, range(9))), "utf-8")

    another = run(environment, "add", path, "--labels", other, "--zoo", "colours")
    too_many = run(environment, "add", path, "--labels", many)
    none = run(environment, "add", path)

    assert "cannot join colours: label 0 is 'cat', in the zoo 'red'" in another.stderr
    assert "begin another one with --zoo" in another.stderr
    assert "no output has a number for each of the 9 labels" in too_many.stderr
    assert "name its labels with --labels" in none.stderr
    assert {another.returncode, too_many.returncode, none.returncode} == {1}


@pytest.mark.parametrize(
    "flags", [("--mean", "a,b"), ("--mean", "1,2"), ("--std", "0"), ("--range", "0..9")]
)
def test_wrong_flags_are_wrong_usage(
    environment: Environment, tmp_path: Path, flags: tuple[str, str]
) -> None:
    """Exit code 2, before anything is looked at."""
    path = write_onnx(tmp_path / "theirs.onnx")

    assert run(environment, "add", path, *flags).returncode == 2
