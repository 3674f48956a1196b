"""A .tflite file of unknown origin: what it says about itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mnv4serve.backends import litert_file
from mnv4serve.backends.flatbuffer import Malformed, Table
from mnv4serve.build.foreign.values import USUAL_CROP, WHITE, Declared, Facts, Port, Step
from mnv4serve.catalog import Preprocessing, Triple
from mnv4serve.errors import CatalogError

METADATA = b"TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
_NORMALISATION = 1
"""Of the kinds of processing that metadata knows."""
_FIRST_STEPS = frozenset({"MUL", "SUB", "ADD", "operator 42", "QUANTIZE", "CAST", "TRANSPOSE"})
_DIVISION = "operator 42"
_ONNX_NAMES = {"MUL": "Mul", "SUB": "Sub", "ADD": "Add", _DIVISION: "Div"}
_ENDS = {"SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid", "operator 50": "LogSoftmax"}
_PASSED = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST"})


def load(path: Path) -> litert_file.Contents:
    """What lies in the file; raises CatalogError where it contradicts itself or runs nowhere."""
    try:
        contents = litert_file.read(path.read_bytes())
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
    except Malformed as error:
        raise CatalogError(f"{path} is no .tflite file, or a damaged one: {error}") from error
    if contents.compiled:
        raise CatalogError(f"{path} is compiled for an Edge TPU: add the file it was compiled from")
    return contents


def facts(path: Path, contents: litert_file.Contents, interpreter: Any) -> Facts:  # noqa: ANN401
    """What the file says, with the ends as the runtime sees them."""
    data = path.read_bytes()
    numbers = {contents.tensors[n].number for o in contents.operations for n in o.outputs if n >= 0}
    whole = {litert_file.Number.INT8, litert_file.Number.UINT8}
    return Facts(
        kind="tflite",
        producer=Table.root(data).content(3).decode(errors="replace"),
        inputs=tuple(map(_port, interpreter.get_input_details())),
        outputs=tuple(map(_port, interpreter.get_output_details())),
        quantised=bool(numbers & whole),
        first=tuple(_first_steps(contents)),
        last={contents.tensors[n].name: _maker(contents, n) for n in contents.outputs},
        declared=_declared(data),
    )


def _port(details: dict[str, Any]) -> Port:
    scale, zero = details["quantization"]
    signature = details.get("shape_signature", details["shape"])
    shape = tuple(int(size) if size > 0 else None for size in signature)
    number = np.dtype(details["dtype"]).name
    return Port(details["name"], number, shape, float(scale), int(zero))


def _first_steps(contents: litert_file.Contents) -> Iterator[Step]:
    name = contents.inputs[0] if contents.inputs else -1
    for operation in contents.operations:
        if name not in operation.inputs or operation.name not in _FIRST_STEPS:
            continue
        others = [contents.tensors[n] for n in operation.inputs if n not in (name, -1)]
        held = [t for t in others if t.constant and t.number == litert_file.Number.FLOAT32]
        values = np.frombuffer(held[0].constant, "<f4") if held else np.empty(0)
        yield Step(_ONNX_NAMES.get(operation.name, operation.name), values)
        name = operation.outputs[0]


def _maker(contents: litert_file.Contents, number: int) -> str:
    """The operator behind an output, past those that only change its format."""
    for operation in reversed(contents.operations):
        if number in operation.outputs:
            if operation.name not in _PASSED:
                return _ENDS.get(operation.name, operation.name)
            number = operation.inputs[0]
    return ""


def _declared(data: bytes) -> Declared | None:
    """Mean and deviation from the metadata that TensorFlow's model publishers add."""
    try:
        model = Table.root(data)
        buffers = list(model.tables(4))
        found = [entry for entry in model.tables(6) if entry.content(0) == METADATA]
        if not found:
            return None
        metadata = Table.root(buffers[found[0].number(1, "I")].content(0))
        (graph, *_) = metadata.tables(3)
        (tensor, *_) = graph.tables(2)
        for process in tensor.tables(4):
            options = process.table(1)
            if process.number(0, "B") == _NORMALISATION and options is not None:
                mean, std = _triple(options.numbers(0, "f")), _triple(options.numbers(1, "f"))
                usual = Preprocessing(resize="shortest", crop=USUAL_CROP, mean=mean, std=std)
                return Declared(source="the metadata in the file", preprocessing=usual)
    except (Malformed, ValueError, IndexError):
        return None
    return None


def _triple(values: tuple[float, ...]) -> Triple:
    """Of pixels in [0, 1]; metadata speaks of pixels up to 255."""
    red, green, blue = (values * 3)[:3] if len(values) == 1 else values
    return red / WHITE, green / WHITE, blue / WHITE
