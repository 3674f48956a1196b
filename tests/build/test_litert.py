"""int8 for LiteRT: what the file holds, what it computes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from mnv4serve.arch.model import MobileNetV4, create_model
from mnv4serve.backends import Artifact
from mnv4serve.backends.litert import LitertBackend
from mnv4serve.backends.litert_file import Contents, read
from mnv4serve.backends.onnx import onnxruntime
from mnv4serve.build.export import PIXELS
from mnv4serve.build.graph import OUTPUT, Graph, capture
from mnv4serve.build.litert import fused, litert_model
from mnv4serve.build.litert_gates import faults
from mnv4serve.build.quantize import quantized_model
from mnv4serve.build.ranges import Ranges, calibrate
from mnv4serve.build.verify import deviation, enlarge, reference_logits
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch

from .conftest import HALF

SIDE = 64
LABELS = 5
UNEVEN = Preprocessing(resize="squash", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return capture(_network(), SIDE)


def _network() -> MobileNetV4:
    torch.manual_seed(0)
    return create_model("conv_small_035", LABELS)


@pytest.fixture(scope="module")
def ranges(graph: Graph, pixels: NDArray[np.uint8]) -> Ranges:
    return calibrate(graph, HALF, SIDE, [pixels])


@pytest.fixture(scope="module")
def contents(graph: Graph, ranges: Ranges) -> Contents:
    return read(litert_model(graph, HALF, SIDE, ranges))


def opened(content: bytes, folder: Path) -> LitertBackend:
    path = folder / "model.tflite"
    path.write_bytes(content)
    artifact = Artifact(
        path, BackendName.LITERT, Precision.INT8, f"tiny@{SIDE}", SIDE, LABELS, "digest"
    )
    return LitertBackend(artifact, slots=1, threads=1)


def test_a_file_holds_only_what_an_edge_tpu_computes(contents: Contents) -> None:
    """No float, no transposition, fixed shapes, old operator versions, weights inside."""
    assert list(faults(contents)) == []
    assert set(contents.counts) == {
        "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "PAD", "MEAN", "RESHAPE", "FULLY_CONNECTED",
    }  # fmt: skip


def test_activations_and_normalisation_cost_no_operators(contents: Contents, graph: Graph) -> None:
    """One operator for each convolution: ReLU is part of it; five strides need their border."""
    kinds = [operator.kind for operator in graph]

    counts = contents.counts
    assert counts["CONV_2D"] + counts["DEPTHWISE_CONV_2D"] == kinds.count("Conv")
    assert counts["PAD"] == 5


@pytest.mark.parametrize("preprocessing", [HALF, UNEVEN])
def test_it_computes_what_the_network_computes(
    preprocessing: Preprocessing, graph: Graph, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    """As near as ONNX Runtime's int8 on the same grids, and nearer to that than both to fp32."""
    ranges = calibrate(graph, preprocessing, SIDE, [pixels])
    backend = opened(litert_model(graph, preprocessing, SIDE, ranges), tmp_path)
    other = onnxruntime().InferenceSession(quantized_model(graph, preprocessing, SIDE, ranges))

    logits, exact = backend.infer(pixels), reference_logits(_network(), pixels, preprocessing)

    (same,) = other.run(None, {PIXELS: pixels})
    assert deviation(logits, same) < 0.1
    assert deviation(logits, exact) < 1.2 * deviation(same, exact)


def test_the_same_network_gives_the_same_bytes(graph: Graph, ranges: Ranges) -> None:
    """An artifact is addressed by what made it, so making it again has to give it again."""
    assert litert_model(graph, HALF, SIDE, ranges) == litert_model(graph, HALF, SIDE, ranges)


def test_constants_are_aligned(graph: Graph, ranges: Ranges) -> None:
    """Weights start at multiples of 16 bytes, as the format promises to kernels."""
    content = litert_model(graph, HALF, SIDE, ranges)
    large = [t.constant for t in read(content).tensors if len(set(t.constant)) > 100]

    assert large
    assert {content.index(constant) % 16 for constant in large} == {0}


def test_a_relu_that_others_overhear_stays(graph: Graph) -> None:
    """A convolution keeps its own output where something else reads it as well."""
    conv, relu, reader = graph[:3]
    second = type(conv)("Add", "sum", (conv.name, relu.name))

    assert [operator.kind for operator in fused((conv, relu, reader, second))] == [
        "Conv", "Relu", "Conv", "Add",
    ]  # fmt: skip


def test_ranges_without_logits_are_refused(graph: Graph, ranges: Ranges) -> None:
    """Ranges made for other runtimes lack what computing throughout on int8 needs."""
    older = {name: pair for name, pair in ranges.items() if name != OUTPUT}

    with pytest.raises(ArtifactMismatch, match="lack logits"):
        litert_model(graph, HALF, SIDE, older)


def test_attention_is_refused() -> None:
    """Hybrid networks multiply activations with each other, which has no place here."""
    hybrid = capture(create_model("hybrid_medium", LABELS), SIDE)
    everything = {operator.name: (-1.0, 1.0) for operator in hybrid}

    with pytest.raises(ArtifactMismatch, match="convolutions only"):
        litert_model(hybrid, HALF, SIDE, everything)


def test_logits_keep_their_full_range(graph: Graph) -> None:
    """The largest logit that was seen still fits: cut-off logits would be equal."""
    pixels = enlarge(np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8), SIDE)

    low, high = calibrate(graph, HALF, SIDE, [pixels])[OUTPUT]

    logits = reference_logits(_network(), pixels, HALF)
    assert low == pytest.approx(min(0, logits.min()), abs=1e-4)
    assert high == pytest.approx(max(0, logits.max()), abs=1e-4)
