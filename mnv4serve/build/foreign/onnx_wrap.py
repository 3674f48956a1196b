"""An ONNX network of other origin as one that takes uint8 RGB pictures and gives logits.

The normalisation goes into the graph, so the backends run it as they run our own.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mnv4serve.backends import LEAST_PROBABILITY, LUMINANCE
from mnv4serve.catalog import Network, Preprocessing

WHITE = 255.0
PREFIX = "mnv4serve/"
PIXELS, LOGITS = f"{PREFIX}pixels", f"{PREFIX}logits"
FIRST_IR_WITHOUT_INITIALISED_INPUTS = 4
_ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
}


class _Chain:
    """Nodes one behind the other, with their constants."""

    def __init__(self, start: str, end: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._last, self._end = start, end

    @property
    def real(self) -> bool:
        """Whether the pixels are floats by now."""
        return any(node.op_type == "Cast" for node in self.nodes)

    def then(self, kind: str, *constants: NDArray[np.generic], **attributes: object) -> None:
        name = f"{self._end}/{len(self.nodes)}"
        names = [f"{name}.{kind}{index}" for index in range(len(constants))]
        self.constants += map(numpy_helper.from_array, constants, names)
        self.nodes.append(helper.make_node(kind, [self._last, *names], [name], name, **attributes))
        self._last = name

    def close(self, name: str) -> None:
        """Let the last tensor have a name of its own."""
        self.then("Identity")
        self.nodes[-1].output[0] = name


def wrapped(
    model: onnx.ModelProto,
    network: Network,
    preprocessing: Preprocessing,
    *,
    resolution: int,
    n_labels: int,
) -> bytes:
    """The model between a preparation of pixels and the making of logits."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    graph = new.graph
    before = _prepare(network, preprocessing)
    n_outputs = network.label_offset + n_labels
    after = _answer(network, n_outputs)
    nodes = [*before.nodes, *graph.node, *after.nodes]
    batch = network.batch or "batch"
    _replace(graph.node, nodes)
    graph.initializer.extend([*before.constants, *after.constants])
    shape = [batch, resolution, resolution, 3]
    _replace(graph.input, [helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, shape)])
    logits = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [batch, n_labels])
    _replace(graph.output, [logits])
    new.ir_version = max(new.ir_version, FIRST_IR_WITHOUT_INITIALISED_INPUTS)
    return bytes(new.SerializeToString())


def _prepare(network: Network, preprocessing: Preprocessing) -> _Chain:
    chain = _Chain(PIXELS, f"{PREFIX}input")
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    factor = 1 / (WHITE * std * network.scale)
    shift = network.zero_point - mean / (std * network.scale)
    as_they_are = np.allclose(factor, 1, rtol=1e-9) and not shift.any()
    if not (as_they_are and network.number == "uint8" and network.colours != "grey"):
        chain.then("Cast", to=TensorProto.FLOAT)
    if not as_they_are:
        chain.then("Mul", factor.astype(np.float32))
        chain.then("Add", shift.astype(np.float32))
    if network.colours == "BGR":
        chain.then("Gather", np.array([2, 1, 0]), axis=3)
    elif network.colours == "grey":
        chain.then("MatMul", np.array(LUMINANCE, np.float32)[:, np.newaxis])
    if network.layout == "NCHW":
        chain.then("Transpose", perm=[0, 3, 1, 2])
    if network.number in {"uint8", "int8"} and chain.real:
        _round(chain, network, factor, shift)
    if network.number != "float32" and chain.real:
        chain.then("Cast", to=_ELEMENTS[network.number])
    chain.close(network.input)
    return chain


def _round(
    chain: _Chain, network: Network, factor: NDArray[np.float64], shift: NDArray[np.float64]
) -> None:
    """To whole numbers, held within their format where the normalisation leaves it."""
    limits = np.iinfo(network.number)
    chain.then("Add", np.array([0.5], np.float32))
    chain.then("Floor")
    ends = np.concatenate([shift, WHITE * factor + shift])
    if ends.min() < limits.min - 0.5 or ends.max() >= limits.max + 0.5:
        chain.then("Max", np.array([limits.min], np.float32))
        chain.then("Min", np.array([limits.max], np.float32))


def _answer(network: Network, n_outputs: int) -> _Chain:
    chain = _Chain(network.output, LOGITS)
    chain.then("Cast", to=TensorProto.FLOAT)
    chain.then("Reshape", np.array([-1, n_outputs]))
    if network.label_offset:
        chain.then("Gather", np.arange(network.label_offset, n_outputs), axis=1)
    if network.gives == "probabilities":
        chain.then("Add", np.array([LEAST_PROBABILITY], np.float32))
        chain.then("Log")
    chain.close(LOGITS)
    return chain


def _replace(field: object, values: list[object]) -> None:
    del field[:]  # type: ignore[attr-defined]  # a repeated field of protobuf
    field.extend(values)  # type: ignore[attr-defined]
