"""Files that are damaged, hostile or no classifiers are refused in a sentence."""

import json
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="reading ONNX files needs onnx")
pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

import flatbuffers
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from mnv4serve.build.foreign.child import ask
from mnv4serve.build.foreign.propose import propose
from mnv4serve.build.foreign.run import open_file
from mnv4serve.build.foreign.values import Wishes
from mnv4serve.errors import CatalogError
from tests.build.foreign.networks import write_onnx
from tests.build.foreign.tflite_networks import write_tflite


def look(path: Path, *, n_labels: int = 3, wishes: Wishes | None = None) -> None:
    propose(open_file(path), wishes or Wishes(), n_labels=n_labels)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(4000))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize("damage", [cut, noise, empty])
def test_a_damaged_file_is_told_from_a_sound_one(
    tmp_path: Path, suffix: str, damage: Callable[[Path], None]
) -> None:
    """Truncated, overwritten or empty: one sentence with the file's name."""
    path = tmp_path / f"theirs{suffix}"
    (write_onnx if suffix == ".onnx" else write_tflite)(path)
    damage(path)

    with pytest.raises(CatalogError, match="theirs"):
        look(path)


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    """What the runtime says is passed on."""
    path = write_onnx(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.graph.node[0].op_type = "Enchant"
    onnx.save(model, path)

    with pytest.raises(CatalogError, match="Enchant"):
        look(path)


def test_an_operator_that_litert_lacks_is_named(tmp_path: Path) -> None:
    """Such as one that only its maker's own runtime knows."""
    path = write_tflite(tmp_path / "theirs.tflite")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "Enchant"
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())

    with pytest.raises(CatalogError, match=r"LiteRT cannot load it .*Enchant"):
        look(path)


def test_a_size_that_lies_is_refused(tmp_path: Path) -> None:
    """Weights that announce more than they have are not read past their end."""
    path = write_onnx(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.graph.initializer[1].dims[0] = 3_000_000
    onnx.save(model, path)

    with pytest.raises(CatalogError, match="cannot load"):
        look(path)


def with_data_outside(path: Path, location: str, **said: int) -> Path:
    """A classifier whose matrix is kept in another file, or said to be."""
    write_onnx(path)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "matrix")
    content = bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **said}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    path.write_bytes(model.SerializeToString())
    (path.parent / "weights.bin").write_bytes(content)
    return path


def test_weights_beside_the_file_are_taken_in(tmp_path: Path) -> None:
    """The copy that is served needs no second file."""
    path = with_data_outside(tmp_path / "theirs.onnx", "weights.bin")

    whole = onnx.load_model_from_string(open_file(path).whole)

    matrix = next(t for t in whole.graph.initializer if t.name == "matrix")
    assert numpy_helper.to_array(matrix).shape == (3, 3)


@pytest.mark.parametrize(
    ("location", "said", "sentence"),
    [
        ("../secret.bin", {}, "outside its own folder"),
        ("/etc/passwd", {}, "outside its own folder"),
        ("link.bin", {}, "outside its own folder"),
        ("gone.bin", {}, "gone.bin beside it, which is missing"),
        ("weights.bin", {"length": 4_000_000}, "wants 4000000 bytes"),
        ("weights.bin", {"offset": -8}, "wants"),
    ],
)
def test_weights_elsewhere_are_never_read(
    tmp_path: Path, location: str, said: dict[str, int], sentence: str
) -> None:
    """Not above the folder, not by a link, not past an end."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(36))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = with_data_outside(folder / "theirs.onnx", location, **said)

    with pytest.raises(CatalogError, match=sentence):
        look(path)


def other(path: Path, inputs: list[onnx.ValueInfoProto], *answer: int) -> Path:
    """A graph that is no classifier of pictures: it answers zeros of some shape."""
    nodes = [
        helper.make_node("Constant", [], ["zeros"], value=numpy_helper.from_array(
            np.zeros((1, *answer), np.float32)
        )),
        helper.make_node("Identity", ["zeros"], ["answer"]),
    ]  # fmt: skip
    outputs = [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, *answer])]
    graph = helper.make_graph(nodes, "other", inputs, outputs)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def info(name: str, shape: list[int], number: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, number, shape)


@pytest.mark.parametrize(
    ("inputs", "n_outputs", "sentence"),
    [
        ([], 3, "0 inputs"),
        ([info("a", [1, 3, 32, 32]), info("b", [1, 3, 32, 32])], 3, r"2 inputs \(a, b\)"),
        ([info("ids", [1, 128], TensorProto.INT64)], 3, "takes int64, not pictures"),
        ([info("image", [1, 5, 32, 32])], 3, "no place for colours"),
        ([info("image", [1, 3, 32, 64])], 3, "64 x 32: only square"),
        ([info("image", [1, 3, 32, 32])], 0, "numbers a picture: answer: 0"),
        ([info("image", [1, 3, 32, 32])], 9, "numbers a picture: answer: 9"),
        ([info("row", [1, 128])], 3, r"\[1, 128\]: a batch of pictures has 4 dimensions"),
    ],
)
def test_what_is_no_classifier_of_pictures_is_told_why(
    tmp_path: Path, inputs: list[onnx.ValueInfoProto], n_outputs: int, sentence: str
) -> None:
    """Inputs, sides and the number of outputs have to fit pictures and labels."""
    path = other(tmp_path / "other.onnx", inputs, n_outputs)

    with pytest.raises(CatalogError, match=sentence):
        look(path)


PICTURE = [info("image", [1, 3, 32, 32])]


@pytest.mark.parametrize("answer", [(3, 8400), (3, 32, 32), (4, 12)])
def test_a_network_that_finds_boxes_or_outlines_is_no_classifier(
    tmp_path: Path, answer: tuple[int, ...]
) -> None:
    """Whatever labels are given, also where as many numbers as labels come out."""
    path = other(tmp_path / "other.onnx", PICTURE, *answer)

    for n_labels in (3, prod(answer)):
        with pytest.raises(CatalogError, match=r"no classifier: .* boxes or outlines"):
            look(path, n_labels=n_labels)


def test_one_number_for_two_labels_is_told_from_wrong_labels(tmp_path: Path) -> None:
    """The sentence says how to export such a network instead."""
    path = other(tmp_path / "other.onnx", PICTURE, 1)

    with pytest.raises(CatalogError, match=r"one number for 2 labels .* 1 - p and p"):
        look(path, n_labels=2)


def test_outputs_that_fit_equally_are_listed(tmp_path: Path) -> None:
    """So that one of them can be named."""
    path = other(tmp_path / "other.onnx", PICTURE, 3)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Neg", ["answer"], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, [1, 3]))
    onnx.save(model, path)

    with pytest.raises(CatalogError, match="--output-name, one of answer, again"):
        look(path)


def test_wishes_that_contradict_the_file_are_refused(tmp_path: Path) -> None:
    """A flag overrides a guess, not what the file says."""
    path = write_onnx(tmp_path / "theirs.onnx")

    with pytest.raises(CatalogError, match="32 pixels a side, not 64"):
        look(path, wishes=Wishes(resolution=64))
    with pytest.raises(CatalogError, match="no place for colours"):
        look(path, wishes=Wishes(layout="NHWC"))
    with pytest.raises(CatalogError, match="no output logits"):
        look(path, wishes=Wishes(output="logits"))


def test_a_file_without_standard_operators_is_no_vision_network(tmp_path: Path) -> None:
    """Such as scikit-learn's trees and regressions."""
    path = write_onnx(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.opset_import[0].domain = "ai.onnx.ml"
    onnx.save(model, path)

    with pytest.raises(CatalogError, match="no operators of the ONNX standard"):
        look(path)


def test_an_old_opset_is_refused(tmp_path: Path) -> None:
    """Its operators mean something else; the sentence says how to convert."""
    path = write_onnx(tmp_path / "theirs.onnx", opset=6)

    with pytest.raises(CatalogError, match="opset 6"):
        look(path)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import os; os.abort()", "dies of it by signal 6"),
        ("raise RuntimeError('no way')", "no way"),
        ("import time; time.sleep(60)", "not get done with it within 1 s"),
    ],
)
def test_a_child_that_does_not_come_back_is_a_sentence(
    tmp_path: Path, code: str, sentence: str
) -> None:
    """However it ends, the caller goes on and says which file it was."""
    command = (sys.executable, "-c", code)

    with pytest.raises(CatalogError, match=f"theirs.*{sentence}"):
        ask({}, subject=tmp_path / "theirs.onnx", timeout_s=1, command=command)


def test_a_file_that_wants_all_memory_fails_alone(tmp_path: Path) -> None:
    """The child may not take more than this machine has."""
    path = write_onnx(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    size = numpy_helper.from_array(np.array([1 << 42]), "size")
    model.graph.initializer.append(size)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["vast"]))
    model.graph.output.append(helper.make_tensor_value_info("vast", TensorProto.FLOAT, None))
    onnx.save(model, path)
    task = {
        "task": "propose",
        "path": str(path),
        "whole": str(tmp_path / "whole.onnx"),
        "wishes": json.loads(Wishes().model_dump_json()),
        "n_labels": 3,
    }

    with pytest.raises(CatalogError, match="theirs"):
        ask(task, subject=path)
