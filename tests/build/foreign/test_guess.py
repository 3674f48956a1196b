"""What a file says about itself leads to how it is probably to be fed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from mnv4serve.build.foreign import onnx_file
from mnv4serve.build.foreign.declared import declared_beside
from mnv4serve.build.foreign.guess import ways
from mnv4serve.build.foreign.values import CAFFE_MEAN, IMAGENET_MEAN, Facts, Port, Step, Wishes
from tests.build.foreign.networks import write_onnx


def first_way(wishes: Wishes | None = None, *, side: int = 224, **said: Any) -> Any:  # noqa: ANN401
    """The likeliest way for a file that says this, as plain values."""
    port = said.pop("port", Port("image", "float32", (None, 3, side, side)))
    order = said.pop("colours", "RGB")
    usual: dict[str, Any] = {"kind": "onnx", "producer": "", "first": (), "last": {}}
    facts = Facts(**{**usual, **said}, inputs=(port,), outputs=(), quantised=False)
    found = ways(facts, port, side, order, wishes or Wishes(), lambda _: None)
    return found[0].preprocessing, found[0].colours


def test_the_producer_tells_how_it_was_trained() -> None:
    """PyTorch's exports want ImageNet's numbers, TensorFlow's -1..1, Caffe's BGR."""
    torch, _ = first_way(producer="pytorch 2.3")
    keras, _ = first_way(producer="tf2onnx 1.16")
    caffe, colours = first_way(producer="onnx-caffe2")

    assert torch.mean == IMAGENET_MEAN
    assert (keras.mean, keras.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (caffe.mean, colours) == (CAFFE_MEAN, "BGR")


def test_ultralytics_networks_want_neither_mean_nor_margin() -> None:
    """PyTorch made them too, but their pictures are only brought to 0..1 and never trimmed."""
    found, colours = first_way(producer="pytorch 2.3 Ultralytics")

    assert (found.mean, found.std, found.crop) == ((0.0,) * 3, (1.0,) * 3, 1.0)
    assert colours == "RGB"


def test_small_grey_pictures_are_brought_to_0_to_1() -> None:
    """What CIFAR's colours average says nothing about digits."""
    digits = Port("image", "float32", (None, 1, 28, 28))
    found, colours = first_way(port=digits, side=28, colours="grey", producer="pytorch")

    assert (found.mean, found.std) == ((0.0,) * 3, (1.0,) * 3)
    assert colours == "grey"


@pytest.mark.parametrize(
    "step",
    [
        Step("Mul", np.array([1 / 255])),
        Step("Div", np.array([127.5])),
        Step("Sub", np.array([103.9])),
    ],
)
def test_a_network_that_scales_pixels_itself_gets_them_raw(step: Step) -> None:
    """Whoever made it."""
    found, _ = first_way(producer="pytorch", first=(Step("Transpose"), step))

    assert (found.mean, found.std) == ((0.0,) * 3, (1 / 255,) * 3)


def test_a_network_that_normalises_small_numbers_gets_0_to_1() -> None:
    """Its own mean is below one, so scaling is left to do."""
    found, _ = first_way(first=(Step("Sub", np.array([0.485, 0.456, 0.406])),))

    assert (found.mean, found.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("number", "zero", "mean"), [("uint8", 128, 128 / 255), ("int8", 0, 128 / 255), ("uint8", 0, 0)]
)
def test_a_quantised_input_takes_pixels_as_they_are(number: str, zero: int, mean: float) -> None:
    """Mean and deviation are those that make its numbers the pixels themselves."""
    port = Port("image", number, (1, 224, 224, 3), scale=1 / 128, zero_point=zero)

    found, _ = first_way(kind="tflite", port=port)

    assert found.mean[0] == pytest.approx(mean)
    assert found.std[0] == pytest.approx(128 / 255)


def test_small_pictures_are_not_cropped() -> None:
    """Photos are, unless a flag says otherwise."""
    photo, _ = first_way()
    thumbnail, _ = first_way(side=32)
    asked, _ = first_way(Wishes(resize="squash", interpolation="bicubic"))

    assert (photo.resize, photo.crop) == ("shortest", 0.875)
    assert (thumbnail.resize, thumbnail.crop) == ("squash", 1.0)
    assert (asked.resize, asked.crop, asked.interpolation) == ("squash", 1.0, "bicubic")


TRANSFORMERS = {
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "resample": 3,
    "do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": {"height": 224},
}  # fmt: skip
TIMM = {
    "pretrained_cfg": {
        "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "crop_pct": 0.875,
        "interpolation": "bicubic",
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values"), [("preprocessor_config.json", TRANSFORMERS), ("config.json", TIMM)]
)
def test_what_was_published_beside_the_file_counts(
    tmp_path: Path, name: str, values: dict[str, Any]
) -> None:
    """As Hugging Face's repositories have it, also above a folder onnx/."""
    (tmp_path / "onnx").mkdir()
    (tmp_path / name).write_text(json.dumps(values), "utf-8")

    declared = declared_beside(tmp_path / "onnx" / "model.onnx")

    assert declared is not None
    found, _ = first_way(declared=declared)
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert (found.resize, found.crop, found.interpolation) == ("shortest", 0.875, "bicubic")


def test_the_author_in_an_onnx_file_is_its_producer_too(tmp_path: Path) -> None:
    """Ultralytics' exports call themselves PyTorch's otherwise."""
    path = write_onnx(tmp_path / "theirs.onnx", producer="pytorch")
    model = onnx.load(path)
    helper.set_model_props(model, {"author": "Ultralytics", "task": "classify"})
    onnx.save(model, path)

    said = onnx_file.facts(onnx_file.load(path))

    assert said.producer == "pytorch Ultralytics"


@pytest.mark.parametrize("text", ["", "[1]", '{"image_mean": "x"}', '{"mean": [1], "std": [0]}'])
def test_what_says_nothing_readable_is_passed_over(tmp_path: Path, text: str) -> None:
    """A file of that name may be about something else."""
    (tmp_path / "config.json").write_text(text, "utf-8")

    assert declared_beside(tmp_path / "model.onnx") is None
