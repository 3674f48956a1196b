"""int8 for LiteRT and the Edge TPU: a network and its activation ranges as a .tflite file.

Written from the same graph, ranges and weight scales as the other int8 artifacts, in NHWC, with
every tensor int8 and every shape fixed, so that one file serves processors and Edge TPUs alike.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.build.export import PIXELS, mean_pixel, with_pixel_scale
from mnv4serve.build.graph import INPUT, Graph, Operator
from mnv4serve.build.litert_writer import Activation, FileWriter, Kind
from mnv4serve.build.quantize import WEIGHT_LEVELS, weight_scale
from mnv4serve.build.ranges import Grid, Ranges
from mnv4serve.catalog import Preprocessing
from mnv4serve.errors import ArtifactMismatch

RELU = "relu"
"""Attribute of a convolution that cuts its output off at zero."""
SAME, VALID = 0, 1
ROWS_AND_COLUMNS = (1, 2)


def litert_model(
    graph: Graph, preprocessing: Preprocessing, resolution: int, ranges: Ranges
) -> bytes:
    """The int8 .tflite file of a convolutional network for single pictures of one size.

    Raises ArtifactMismatch for operators that have no int8 form here, as attention has.
    """
    first, *rest = fused(with_pixel_scale(graph, preprocessing))
    network = _Network(_every_range((first, *rest), ranges), resolution)
    network.append(network.on_pixels(first, preprocessing))
    for operator in rest:
        network.append(operator)
    return network.finish(rest[-1].name)


def fused(graph: Graph) -> Graph:
    """The graph with each ReLU made part of the convolution that nothing else reads."""
    readers = Counter(name for operator in graph for name in operator.inputs)
    operators: dict[str, Operator] = {}
    for operator in graph:
        source = operators.get(operator.inputs[0])
        alone = source is not None and source.kind == "Conv" and readers[source.name] == 1
        if source is None or operator.kind != "Relu" or not alone:
            operators[operator.name] = operator
            continue
        del operators[source.name]
        attributes = {**source.attributes, RELU: True}
        operators[operator.name] = replace(source, name=operator.name, attributes=attributes)
    return tuple(operators.values())


def _every_range(graph: Graph, ranges: Ranges) -> Ranges:
    """A range for every tensor: reshaping keeps the grid, which is named after what it gives."""
    kept = {operator.inputs[0]: operator.name for operator in graph if operator.kind == "Reshape"}
    known = {operator.name: kept.get(operator.name, operator.name) for operator in graph}
    missing = [name for name in known.values() if name not in ranges]
    if missing:
        raise ArtifactMismatch(
            f"the quantisation ranges lack {missing[0]}, which LiteRT needs: compute them again"
        )
    return {name: ranges[source] for name, source in known.items()}


class _Network:
    """Writes operators in order, each on the int8 tensors that the earlier ones gave."""

    def __init__(self, ranges: Ranges, resolution: int) -> None:
        self._ranges = ranges
        self._writer = FileWriter()
        self._shape = (1, resolution, resolution, 3)
        self._tensors: dict[str, Activation] = {}

    def on_pixels(self, first: Operator, preprocessing: Preprocessing) -> Operator:
        """The first convolution made to read pixels, less 128: the mean goes into its bias."""
        mean = mean_pixel(preprocessing)
        grid = Grid(1.0, round(float(mean.mean())))
        self._tensors[INPUT] = self._writer.activation(PIXELS, self._shape, grid)
        weights, bias = first.constants
        shift = (weights * (grid.zero - mean).reshape(1, -1, 1, 1)).sum(axis=(1, 2, 3))
        return replace(first, constants=(weights, bias + shift))

    def append(self, operator: Operator) -> None:
        inputs = [self._tensors[name] for name in operator.inputs]
        match operator.kind:
            case "Conv":
                output = self._convolution(operator, inputs[0])
            case "Gemm":
                output = self._product(operator, inputs[0])
            case "Add":
                output = self._sum(operator, inputs)
            case "GlobalAveragePool":
                output = self._mean(operator, inputs[0])
            case "Reshape":
                output = self._flat(operator, inputs[0])
            case kind:
                raise ArtifactMismatch(
                    f"{operator.name} computes {kind}, which has no int8 form for LiteRT and the "
                    "Edge TPU: choose a network of convolutions only"
                )
        self._tensors[operator.name] = output

    def finish(self, last: str) -> bytes:
        return self._writer.finish(self._tensors[INPUT], self._tensors[last])

    def _convolution(self, operator: Operator, source: Activation) -> Activation:
        weights, bias = operator.constants
        step = operator.attributes["strides"][0]
        depthwise = operator.attributes["group"] > 1
        output = self._announce(operator.name, self._reach(operator, source), len(weights))
        padded = self._padded(operator, source, output) if step > 1 else source
        scale = weight_scale(weights, bias, source.grid)
        order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
        constants = (
            self._weights(operator, weights, scale, order=order, axis=axis),
            self._bias(operator, bias, scale * source.grid.scale),
        )
        options = {
            "padding": SAME if step == 1 else VALID,
            "strideW": step,
            "strideH": step,
            "fusedActivationFunction": int(RELU in operator.attributes),
        }
        kind = Kind.DEPTHWISE_CONV_2D if depthwise else Kind.CONV_2D
        options |= {"depthMultiplier": 1} if depthwise else {}
        return self._writer.operator(kind, [padded.number, *constants], output, options)

    def _reach(self, operator: Operator, source: Activation) -> int:
        """Rows, and columns, of a convolution's output."""
        step, border = operator.attributes["strides"][0], operator.attributes["pads"][0]
        kernel = operator.attributes["kernel_shape"][0]
        return int((source.shape[1] + 2 * border - kernel) // step + 1)

    def _padded(self, operator: Operator, source: Activation, output: Activation) -> Activation:
        """A border as the reference has it: the runtime's own lies elsewhere at a stride of 2."""
        side, before = source.shape[1], operator.attributes["pads"][0]
        kernel, step = operator.attributes["kernel_shape"][0], operator.attributes["strides"][0]
        after = max(0, (output.shape[1] - 1) * step + kernel - side - before)
        if not before and not after:
            return source
        name, border = f"{operator.name}.padded", (before, after)
        shape = (1, side + before + after, side + before + after, source.shape[3])
        padded = self._writer.activation(name, shape, source.grid)
        borders = np.array([(0, 0), border, border, (0, 0)], np.int32)
        borders_number = self._writer.numbers(f"{name}.borders", borders)
        return self._writer.operator(Kind.PAD, [source.number, borders_number], padded, {})

    def _product(self, operator: Operator, source: Activation) -> Activation:
        """The classifier, with one scale: older kernels know no more for a matrix product."""
        weights, bias = operator.constants
        scale = weight_scale(weights, bias, source.grid).max(keepdims=True)
        constants = (
            self._weights(operator, weights, scale, order=(0, 1), axis=0),
            self._bias(operator, bias, scale * source.grid.scale),
        )
        shape, grid = (1, len(weights)), self._grid(operator.name)
        output = self._writer.activation(operator.name, shape, grid)
        return self._writer.operator(Kind.FULLY_CONNECTED, [source.number, *constants], output, {})

    def _sum(self, operator: Operator, inputs: list[Activation]) -> Activation:
        output = self._announce(operator.name, inputs[0].shape[1], inputs[0].shape[3])
        return self._writer.operator(Kind.ADD, [i.number for i in inputs], output, {})

    def _mean(self, operator: Operator, source: Activation) -> Activation:
        axes = self._writer.numbers(f"{operator.name}.axes", np.array(ROWS_AND_COLUMNS, np.int32))
        output = self._announce(operator.name, 1, source.shape[3])
        return self._writer.operator(Kind.MEAN, [source.number, axes], output, {"keepDims": True})

    def _flat(self, operator: Operator, source: Activation) -> Activation:
        shape = (1, source.shape[3])
        wanted = np.array(shape, np.int32)
        number = self._writer.numbers(f"{operator.name}.shape", wanted)
        output = self._writer.activation(operator.name, shape, source.grid)
        return self._writer.operator(
            Kind.RESHAPE, [source.number, number], output, {"newShape": wanted}
        )

    def _announce(self, name: str, side: int, channels: int) -> Activation:
        return self._writer.activation(name, (1, side, side, channels), self._grid(name))

    def _grid(self, name: str) -> Grid:
        return Grid.of(*self._ranges[name])

    def _weights(
        self,
        operator: Operator,
        weights: NDArray[Any],
        scale: NDArray[np.float64],
        *,
        order: tuple[int, ...],
        axis: int,
    ) -> int:
        wide = scale.reshape(-1, *[1] * (weights.ndim - 1))
        whole = np.clip(np.rint(weights / wide), -WEIGHT_LEVELS, WEIGHT_LEVELS).astype(np.int8)
        turned = np.ascontiguousarray(whole.transpose(order))
        return self._writer.weights(f"{operator.name}.weight", turned, scale, axis=axis)

    def _bias(self, operator: Operator, bias: NDArray[Any], scale: NDArray[np.float64]) -> int:
        whole = np.rint(bias / scale).astype(np.int32)
        return self._writer.weights(f"{operator.name}.bias", whole, scale)
