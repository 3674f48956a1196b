"""A captured network as an ONNX model or OpenVINO IR that takes uint8 RGB NHWC pictures."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mnv4serve.backends.cpu import openvino
from mnv4serve.build.graph import INPUT, OUTPUT, Constant, Graph, Operator
from mnv4serve.catalog import Preprocessing
from mnv4serve.errors import StorageError

PIXELS = "pixels"
BATCH = "batch"
OPSET = 20
IR_VERSION = 9
"""The lowest that holds the opset, so that older runtimes read the file as well."""
WHITE = 255.0


class OnnxWriter:
    """Collects the nodes and constants of one ONNX model."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, operator: Operator) -> str:
        """Write an operator with its constants and give back the name of its output."""
        names = [
            self.constant(f"{operator.name}.{index}", value)
            for index, value in enumerate(operator.constants)
        ]
        inputs = [*operator.inputs, *names]
        self._nodes.append(
            helper.make_node(
                operator.kind, inputs, [operator.name], operator.name, **operator.attributes
            )
        )
        return operator.name

    def constant(self, name: str, value: Constant) -> str:
        """Write a constant once; floats become single precision."""
        single = value.astype(np.float32) if value.dtype == np.float64 else value
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(single), name)
        return name

    def finish(self, *, resolution: int, n_labels: int, extra: Iterable[str] = ()) -> bytes:
        """The checked model; `extra` names further tensors to give out beside the logits."""
        pixels = helper.make_tensor_value_info(
            PIXELS, TensorProto.UINT8, [BATCH, resolution, resolution, 3]
        )
        logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, n_labels])
        more = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in extra]
        graph = helper.make_graph(
            self._nodes, "mnv4", [pixels], [logits, *more], list(self._constants.values())
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        if not more:  # the check wants the shape of every output
            onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())


def float_model(
    graph: Graph, preprocessing: Preprocessing, resolution: int, *, extra: Iterable[str] = ()
) -> bytes:
    """The fp32 ONNX model with normalisation inside."""
    writer = OnnxWriter()
    writer.node(Operator("Transpose", "planar", (PIXELS,), (), {"perm": [0, 3, 1, 2]}))
    writer.node(Operator("Cast", "real", ("planar",), (), {"to": TensorProto.FLOAT}))
    writer.node(Operator("Sub", INPUT, ("real",), (_wide(mean_pixel(preprocessing)),)))
    for operator in with_pixel_scale(graph, preprocessing):
        writer.node(operator)
    return writer.finish(resolution=resolution, n_labels=label_count(graph), extra=extra)


def with_pixel_scale(graph: Graph, preprocessing: Preprocessing) -> Graph:
    """The graph with division by the standard deviation moved into the first convolution.

    Only the factor moves: the mean has to be subtracted before the zero padding.
    """
    first, *rest = graph
    if first.kind != "Conv" or any(INPUT in operator.inputs for operator in rest):
        raise NotImplementedError("a network starts with exactly one convolution")
    weights, bias = first.constants
    factor = 1 / (WHITE * np.asarray(preprocessing.std))
    return (replace(first, constants=(weights * _wide(factor), bias)), *rest)


def mean_pixel(preprocessing: Preprocessing) -> Constant:
    """The pixel value per channel that becomes zero."""
    return WHITE * np.asarray(preprocessing.mean, np.float64)


def label_count(graph: Graph) -> int:
    return len(graph[-1].constants[0])


def write_openvino(model: bytes, target: Path) -> None:
    """Convert an ONNX model to OpenVINO IR: `target` (.xml) and its .bin."""
    runtime = openvino()
    converted = runtime.Core().read_model(model, b"")
    try:
        runtime.save_model(converted, target, compress_to_fp16=False)
    except RuntimeError as error:
        raise StorageError(f"{target} cannot be written; the disk may be full") from error


def _wide(per_channel: Constant) -> Constant:
    return per_channel.reshape(1, -1, 1, 1)
