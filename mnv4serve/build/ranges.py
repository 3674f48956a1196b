"""Quantisation ranges: computed once from real pictures, shipped as JSON, read on every build."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends.onnx import onnxruntime
from mnv4serve.build.export import PIXELS, float_model
from mnv4serve.build.graph import INPUT, OUTPUT, Graph
from mnv4serve.catalog import Preprocessing
from mnv4serve.errors import CatalogError

LEVELS = 255
READERS = frozenset({"Conv", "Gemm", "Add"})
SAMPLES = 512
"""Values kept per picture and tensor."""
USUAL = 0.98
"""Share of the pictures whose peaks count unless said otherwise: a few pictures can drive a network
to values that would leave no levels for all the others."""
SHRINKS = 2.0 ** np.linspace(-3, 0, 25)

Range = tuple[float, float]
Ranges = Mapping[str, Range]
"""Smallest and largest value per tensor, by the tensor's name in the graph."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The uint8 grid of one activation tensor."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> "Grid":
        """The finest grid that holds a range and, exactly, zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32(max(high - low, 1e-6) / LEVELS))
        return cls(scale, round(-low / scale))

    def rounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.clip(np.rint(values / self.scale) + self.zero, 0, LEVELS)
        return np.asarray((whole - self.zero) * self.scale)


@dataclass(slots=True)
class _Seen:
    """What was observed of one tensor, picture by picture."""

    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    samples: list[NDArray[np.float32]] = field(default_factory=list)

    def observe(self, values: NDArray[np.float32], rng: np.random.Generator) -> None:
        flat = values.reshape(len(values), -1)
        self.lows += flat.min(axis=1).tolist()
        self.highs += flat.max(axis=1).tolist()
        self.samples.append(flat[:, rng.integers(flat.shape[1], size=SAMPLES)].ravel())

    def range(self, usual: float) -> Range:
        """The range whose grid rounds and clips the usual values with the least square error."""
        low = min(0.0, float(np.quantile(self.lows, 1 - usual)))
        high = max(0.0, float(np.quantile(self.highs, usual)))
        values = np.clip(np.concatenate(self.samples).astype(np.float64), low, high)
        errors = [
            np.square(Grid.of(k * low, k * high).rounded(values) - values).mean() for k in SHRINKS
        ]
        best = float(SHRINKS[int(np.argmin(errors))])
        return best * low, best * high

    def extent(self) -> Range:
        """All that was seen: logits that were cut off would be equal to each other."""
        return min(0.0, *self.lows), max(0.0, *self.highs)


def quantised_tensors(graph: Graph) -> tuple[str, ...]:
    """The tensors that get a grid: what convolutions, residual sums and the classifier read.

    Sums as well: without them ONNX Runtime computes every residual in fp32, half as fast.
    """
    reads = [operator.inputs for operator in graph if operator.kind in READERS]
    names = dict.fromkeys(name for inputs in reads for name in inputs)
    return tuple(name for name in names if name != INPUT)


def whole_tensors(graph: Graph) -> tuple[str, ...]:
    """The further tensors that need a grid where a runtime computes on whole numbers throughout."""
    pooled = [name for op in graph if op.kind == "GlobalAveragePool" for name in op.inputs]
    return (*pooled, OUTPUT)


def calibrate(
    graph: Graph,
    preprocessing: Preprocessing,
    resolution: int,
    batches: Iterable[NDArray[np.uint8]],
    *,
    usual: float = USUAL,
) -> Ranges:
    """Ranges of a network's tensors over some hundred real pictures [N, H, W, 3].

    `usual` is the share of the pictures whose peaks count.
    """
    seen = {name: _Seen() for name in quantised_tensors(graph)}
    more = {name: _Seen() for name in whole_tensors(graph)}
    names = (*seen, *more)
    inner = tuple(name for name in names if name != OUTPUT)
    model = float_model(graph, preprocessing, resolution, extra=inner)
    session = onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    rng, more_rng = np.random.default_rng(0), np.random.default_rng(1)
    for pixels in batches:
        values = dict(zip(names, session.run(names, {PIXELS: pixels}), strict=True))
        for name, tensor in seen.items():
            tensor.observe(values[name], rng)
        for name, tensor in more.items():
            tensor.observe(values[name], more_rng)
    ranges = {name: tensor.range(usual) for name, tensor in (seen | more).items()}
    return ranges | {OUTPUT: more[OUTPUT].extent()}


def parse_ranges(content: bytes) -> Ranges:
    """Shipped ranges; raises CatalogError where they are not pairs of finite numbers."""
    try:
        items = json.loads(content).items()
        pairs = {str(name): (float(low), float(high)) for name, (low, high) in items}
    except (ValueError, TypeError, AttributeError) as error:
        raise CatalogError(f"quantisation ranges cannot be read: {error}") from error
    if not np.isfinite(list(pairs.values())).all():
        raise CatalogError("quantisation ranges have to be finite")
    return pairs


def format_ranges(ranges: Ranges) -> bytes:
    """Ranges as they are shipped: JSON, one tensor a line, six digits."""
    lines = (
        f"  {json.dumps(name)}: [{low:.6g}, {high:.6g}]" for name, (low, high) in ranges.items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
