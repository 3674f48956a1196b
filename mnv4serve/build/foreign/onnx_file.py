"""An ONNX file of unknown origin: what it says about itself, with everything it needs inside."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper

from mnv4serve.build.foreign.values import Facts, Port, Step
from mnv4serve.errors import CatalogError

OLDEST_OPSET = 7
"""Before it, operators broadcast in other ways."""
LARGEST_BYTES = (1 << 31) - 1
"""What one ONNX file can hold."""
LONGEST_PRODUCER = 200
FIRST_STEPS = frozenset(
    {"Cast", "Identity", "Transpose", "Mul", "Div", "Sub", "Add", "Pad", "Unsqueeze", "Squeeze"}
)
_QUANTISED = ("QLinear", "QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_NUMBERS = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
}


def load(path: Path) -> onnx.ModelProto:
    """The model with its external data inside; raises CatalogError where a file is not as it says.

    Data outside the model's own folder is never read.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise CatalogError(f"{path} is larger than the 2 GB that one ONNX file can hold")
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise CatalogError(f"{path} is no ONNX file, or a damaged one") from error
    if not model.graph.node:
        raise CatalogError(f"{path} is no ONNX file, or a damaged one: it holds no operators")
    _take_in(model, path)
    opset = opset_of(model)
    if opset is None:
        raise CatalogError(f"{path} holds no operators of the ONNX standard, so no vision network")
    if opset < OLDEST_OPSET:
        raise CatalogError(
            f"{path} is of opset {opset}: convert it to {OLDEST_OPSET} or newer, for example with "
            "onnx.version_converter"
        )
    return model


def opset_of(model: onnx.ModelProto) -> int | None:
    """The version of the standard operators, None where it uses none."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=None)


def facts(model: onnx.ModelProto) -> Facts:
    """What the graph says; shapes of outputs may be open."""
    held = {tensor.name for tensor in model.graph.initializer}
    said = {entry.key: entry.value for entry in model.metadata_props}
    named = (model.producer_name, model.producer_version, said.get("author", ""))
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    inputs = tuple(_port(entry) for entry in model.graph.input if entry.name not in held)
    kinds = {node.op_type for node in model.graph.node}
    return Facts(
        kind="onnx",
        producer=" ".join(filter(None, named))[:LONGEST_PRODUCER],
        inputs=inputs,
        outputs=tuple(_port(entry) for entry in model.graph.output),
        quantised=any(kind.startswith(_QUANTISED) for kind in kinds),
        first=tuple(_first_steps(model.graph, inputs[0].name)) if inputs else (),
        last={entry.name: makers.get(entry.name, "") for entry in model.graph.output},
    )


def _port(entry: onnx.ValueInfoProto) -> Port:
    tensor = entry.type.tensor_type
    dimensions = [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in tensor.shape.dim
    ]
    number = _NUMBERS.get(tensor.elem_type)
    if number is None:
        known = tensor.elem_type in TensorProto.DataType.values()
        number = TensorProto.DataType.Name(tensor.elem_type).lower() if known else "unknown"
    return Port(entry.name, number, tuple(dimensions))


def _first_steps(graph: onnx.GraphProto, name: str) -> Iterator[Step]:
    """What happens to a picture before the first operator that looks at more than one pixel."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    while True:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type not in FIRST_STEPS or not users[0].output:
            return
        others = [constants[other] for other in users[0].input if other in constants]
        yield Step(users[0].op_type, _values(others[0]) if others else np.empty(0))
        name = users[0].output[0]


def _values(tensor: TensorProto) -> np.ndarray:
    try:
        return np.asarray(numpy_helper.to_array(tensor), np.float64).reshape(-1)
    except (TypeError, ValueError):
        return np.empty(0)


def _take_in(model: onnx.ModelProto, path: Path) -> None:
    outside = [t for t in _tensors(model) if external_data_helper.uses_external_data(t)]
    if not outside:
        return
    folder = path.resolve().parent
    total = sum(_checked_size(tensor, path, folder) for tensor in outside)
    if total > LARGEST_BYTES:
        raise CatalogError(f"{path} has more than the 2 GB of weights that one ONNX file can hold")
    try:
        for tensor in outside:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CatalogError(f"the weights beside {path} cannot be read: {reason}") from error


def _checked_size(tensor: TensorProto, path: Path, folder: Path) -> int:
    """The bytes that a tensor keeps in another file; raises where that lies or does not fit."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    target = (folder / location).resolve()
    if not location or not target.is_relative_to(folder):
        raise CatalogError(
            f"{path} names weights outside its own folder ({location!r}): they are not read"
        )
    if not target.is_file():
        raise CatalogError(f"{path} needs {location} beside it, which is missing")
    try:
        offset, length = int(said.get("offset", 0)), int(said.get("length", 0))
    except ValueError as error:
        raise CatalogError(f"{path} says nonsense about where {location} begins") from error
    size = target.stat().st_size
    length = length or size - offset
    if offset < 0 or length < 0 or offset + length > size:
        raise CatalogError(
            f"{path} wants {length} bytes at {offset} of {location}, which has {size}"
        )
    return length


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)
