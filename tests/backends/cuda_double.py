"""The processor in a GPU's place, and the tiny network as the `cuda` backend reads it."""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mnv4serve.backends.cuda_runtime import Network
from mnv4serve.build.cuda import cuda_model
from mnv4serve.build.graph import INPUT, Operator
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import Precision
from tests.backends.tiny import LABELS, SIDE, _weights

HALF = (0.5, 0.5, 0.5)


class Processor:
    """Executes what a graph was captured from; fails when and how it is told to."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.captured: list[int] = []
        """Batch sizes, in the order of their captures."""
        self.replayed: list[int] = []
        self.streams: list[Stream] = []
        self.fits = 1_000
        """Largest batch that there is memory for."""
        self.failure: Exception | None = None
        """Raised by the next replays."""
        self.compilations = 0
        self.releases = 0

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    def stream(self) -> "Stream":
        self.streams.append(Stream(self))
        return self.streams[-1]

    def compiled(self, network: Network) -> Network:
        self.compilations += 1
        assert isinstance(network, nn.Module)
        self.weights = weakref.ref(next(network.buffers()))

        def run(pixels: Tensor) -> Tensor:
            if len(pixels) > self.fits:
                raise torch.OutOfMemoryError("CUDA out of memory")
            logits: Tensor = network(pixels)
            return logits

        return run

    def release(self) -> None:
        self.releases += 1
        if self.failure:
            raise self.failure


class Stream:
    """Replays by running again, into the memory of the first result as a graph does."""

    def __init__(self, owner: Processor) -> None:
        self._owner = owner
        self._state = threading.local()
        self.waits = 0

    @contextmanager
    def current(self) -> Iterator[None]:
        self._state.inside = True
        yield
        self._state.inside = False

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        assert self._state.inside, "a capture outside its stream records nothing"
        result = run()
        size = len(result)
        self._owner.captured.append(size)

        def replay() -> None:
            assert self._state.inside, "a replay outside its stream overtakes its copies"
            self._owner.replayed.append(size)
            if self._owner.failure:
                raise self._owner.failure
            result.copy_(run())

        return replay, result

    def wait(self) -> None:
        self.waits += 1


def tiny_graph() -> tuple[Operator, ...]:
    """The tiny network as the build captures networks."""
    weights = _weights()
    attributes = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 0, 0, 0), "group": 1}
    return (
        Operator("Conv", "sums", (INPUT,), (weights["kernel"], np.zeros(8)), attributes),
        Operator("Relu", "features", ("sums",)),
        Operator("GlobalAveragePool", "pooled", ("features",)),
        Operator("Reshape", "flat", ("pooled",), (np.array([0, 8]),)),
        Operator("Gemm", "logits", ("flat",), (weights["matrix"].T, np.zeros(LABELS))),
    )


def write_program(path: Path, *, precision: Precision = Precision.FP32) -> Path:
    preprocessing = Preprocessing(resize="squash", mean=HALF, std=HALF)
    path.write_bytes(cuda_model(tiny_graph(), preprocessing, SIDE, precision))
    return path
