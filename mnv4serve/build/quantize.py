"""int8: the QDQ model that a network and its activation ranges make.

Activations are uint8 with one scale per tensor, weights int8 with one scale per channel: the
combination that ONNX Runtime and OpenVINO both run fast.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mnv4serve.build.export import (
    PIXELS,
    OnnxWriter,
    label_count,
    mean_pixel,
    with_pixel_scale,
)
from mnv4serve.build.graph import INPUT, Graph, Operator
from mnv4serve.build.ranges import Grid, Ranges, quantised_tensors
from mnv4serve.catalog import Preprocessing
from mnv4serve.errors import CatalogError

WEIGHT_LEVELS = 127
BIAS_LIMIT = 2.0**30
WEIGHTED = frozenset({"Conv", "Gemm"})


def quantized_model(
    graph: Graph, preprocessing: Preprocessing, resolution: int, ranges: Ranges
) -> bytes:
    """The int8 ONNX model: the network with its ranges inserted as QDQ pairs."""
    names = quantised_tensors(graph)
    missing = [name for name in names if name not in ranges]
    if missing:
        raise CatalogError(f"the quantisation ranges lack {missing[0]}: compute them again")
    quantizer = _Quantizer({name: ranges[name] for name in names})
    first, *rest = with_pixel_scale(graph, preprocessing)
    quantizer.stem(first, preprocessing)
    for operator in rest:
        quantizer.append(operator)
    return quantizer.writer.finish(resolution=resolution, n_labels=label_count(graph))


class _Quantizer:
    """Writes operators, each reading the quantised form of its inputs where there is one."""

    def __init__(self, ranges: Ranges) -> None:
        self.writer = OnnxWriter()
        self._ranges = ranges
        self._quantised: dict[str, tuple[str, Grid]] = {}

    def stem(self, first: Operator, preprocessing: Preprocessing) -> None:
        """The first convolution on the pixels themselves, which are already uint8."""
        planar = Operator("Transpose", "planar", (PIXELS,), (), {"perm": [0, 3, 1, 2]})
        self.writer.node(planar)
        mean = mean_pixel(preprocessing)
        grid = Grid(1.0, round(float(mean.mean())))
        self._dequantize("planar", INPUT, grid)
        weights, bias = first.constants
        shift = (weights * (grid.zero - mean).reshape(1, -1, 1, 1)).sum(axis=(1, 2, 3))
        self.append(replace(first, constants=(weights, bias + shift)))

    def append(self, operator: Operator) -> None:
        inputs = tuple(
            self._quantised[n][0] if n in self._quantised else n for n in operator.inputs
        )
        if operator.kind in WEIGHTED:
            self._weighted(operator, inputs)
        else:
            self.writer.node(replace(operator, inputs=inputs))
        if operator.name in self._ranges:
            self._quantize(operator.name)

    def _weighted(self, operator: Operator, inputs: tuple[str, ...]) -> None:
        """A convolution or matrix product with int8 weights and int32 bias."""
        grid = self._quantised[operator.inputs[0]][1]
        weights, bias = operator.constants
        scale = weight_scale(weights, bias, grid)
        wide = scale.reshape(-1, *[1] * (weights.ndim - 1))
        whole = np.clip(np.rint(weights / wide), -WEIGHT_LEVELS, WEIGHT_LEVELS).astype(np.int8)
        names = [
            self._constant(f"{operator.name}.weight", whole, scale),
            self._constant(
                f"{operator.name}.bias",
                np.rint(bias / (scale * grid.scale)).astype(np.int32),
                scale * grid.scale,
            ),
        ]
        self.writer.node(replace(operator, inputs=(*inputs, *names), constants=()))

    def _constant(self, name: str, whole: NDArray[np.integer], scale: NDArray[np.float64]) -> str:
        constant = self.writer.constant(f"{name}.quantised", whole)
        zero = np.zeros(len(scale), whole.dtype)
        return self.writer.node(
            Operator("DequantizeLinear", name, (constant,), (scale, zero), {"axis": 0})
        )

    def _quantize(self, name: str) -> None:
        grid = Grid.of(*self._ranges[name])
        constants = (np.array(grid.scale), np.array(grid.zero, np.uint8))
        self.writer.node(Operator("QuantizeLinear", f"{name}.quantised", (name,), constants))
        self._dequantize(f"{name}.quantised", name, grid)

    def _dequantize(self, source: str, name: str, grid: Grid) -> None:
        constants = (np.array(grid.scale), np.array(grid.zero, np.uint8))
        output = f"{name}.dequantised"
        self.writer.node(Operator("DequantizeLinear", output, (source,), constants))
        self._quantised[name] = output, grid


def weight_scale(
    weights: NDArray[np.float64], bias: NDArray[np.float64], grid: Grid
) -> NDArray[np.float64]:
    """One scale per output channel, large enough for the bias to fit 32 bits."""
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1) / WEIGHT_LEVELS
    scale = np.maximum(largest, np.abs(bias) / (grid.scale * BIAS_LIMIT))
    single = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
    return np.asarray(single, np.float64)
