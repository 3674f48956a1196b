"""int8: ranges from pictures, and the model that they make."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnv4serve.arch.model import create_model
from mnv4serve.build.graph import Graph, Operator, capture
from mnv4serve.build.quantize import quantized_model, weight_scale
from mnv4serve.build.ranges import (
    Grid,
    calibrate,
    format_ranges,
    parse_ranges,
    quantised_tensors,
)
from mnv4serve.errors import CatalogError

from .conftest import HALF


@pytest.fixture(scope="module")
def graph() -> Graph:
    return capture(create_model("conv_small_035", 5), 64)


def ranges_of(graph: Graph) -> dict[str, tuple[float, float]]:
    return dict.fromkeys(quantised_tensors(graph), (-1.0, 6.0))


def test_weights_are_int8_and_activations_uint8(graph: Graph) -> None:
    """The one combination that both runtimes run fast, with one weight scale per channel."""
    model = onnx.load_from_string(quantized_model(graph, HALF, 64, ranges_of(graph)))
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}

    assert constants["conv_stem.weight.quantised"].dtype == np.int8
    assert constants["conv_stem.weight.0"].shape == (32,)
    zeros = [n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert zeros
    assert {constants[name].dtype for name in zeros} == {np.dtype(np.uint8)}


def test_pixels_reach_the_first_convolution_as_uint8(graph: Graph) -> None:
    """Pixels are quantised already: nothing computes on them in floats before the network."""
    model = onnx.load_from_string(quantized_model(graph, HALF, 64, ranges_of(graph)))

    first = [node.op_type for node in model.graph.node if node.op_type in {"Cast", "Sub"}]
    producer = {node.output[0]: node.op_type for node in model.graph.node}
    assert producer["planar"] == "Transpose"
    assert first == []


def test_a_missing_range_is_named(graph: Graph) -> None:
    """Ranges of another network are refused, naming what they lack."""
    ranges = ranges_of(graph)
    del ranges["blocks.2.1.add"]

    with pytest.raises(CatalogError, match=r"lack blocks\.2\.1\.add"):
        quantized_model(graph, HALF, 64, ranges)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_grid_holds_zero_exactly_and_its_ends_nearly(one: float, other: float) -> None:
    """Zero stays zero, which padding and ReLU need; the ends are at most one step away."""
    low, high = min(one, other), max(one, other)
    grid = Grid.of(low, high)
    ends = np.array([min(low, 0.0), max(high, 0.0)])

    assert grid.rounded(np.zeros(1))[0] == 0
    assert 0 <= grid.zero <= 255
    assert np.abs(grid.rounded(ends) - ends).max() <= grid.scale * 1.001


def test_a_large_bias_widens_the_weight_scale() -> None:
    """A bias always fits 32 bits, at the price of coarser weights in its channel."""
    weights, bias = np.full((2, 1, 1, 1), 1e-6), np.array([1e6, 0.0])

    scale = weight_scale(weights, bias, Grid.of(0, 1))

    assert abs(bias[0] / (scale[0] * Grid.of(0, 1).scale)) < 2**31
    assert scale[1] < scale[0]


def test_ranges_survive_the_file() -> None:
    """Six digits are kept, names untouched."""
    ranges = {'a."b"': (-1.25, 3.0), "act#1": (0.0, 1e-3)}

    assert parse_ranges(format_ranges(ranges)) == ranges


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"a": 1}', b'{"a": [1]}', b'{"a": [0, "x"]}', b'{"a": [0, NaN]}'],
)
def test_broken_ranges_are_refused(content: bytes) -> None:
    """Whatever is not a pair of finite numbers per tensor is one clear error."""
    with pytest.raises(CatalogError, match="quantisation ranges"):
        parse_ranges(content)


def test_few_extreme_pictures_do_not_widen_the_ranges() -> None:
    """One picture in a hundred may be as extreme as it likes."""
    layer = Operator(
        "Conv",
        "conv",
        ("normalised",),
        (np.ones((1, 3, 1, 1)), np.zeros(1)),
        {"kernel_shape": (1, 1)},
    )
    after = Operator("Conv", "middle", ("conv",), (np.ones((1, 1, 1, 1)), np.zeros(1)))
    pool = Operator("GlobalAveragePool", "pool", ("middle",))
    flat = Operator("Reshape", "flat", ("pool",), (np.array([0, 1]),))
    head = Operator("Gemm", "logits", ("flat",), (np.ones((5, 1)), np.zeros(5)), {"transB": 1})

    def batches(loud: int) -> NDArray[np.uint8]:
        calm = np.random.default_rng(0).integers(118, 138, (100, 32, 32, 3), np.uint8)
        calm[:loud] = 255
        return calm

    network = (layer, after, pool, flat, head)
    quiet = calibrate(network, HALF, 32, [batches(0)])["conv"]
    loud = calibrate(network, HALF, 32, [batches(1)])["conv"]
    assert loud[1] == pytest.approx(quiet[1], rel=0.2)
