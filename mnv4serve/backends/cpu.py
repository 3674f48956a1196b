"""OpenVINO on the CPU.

Every slot has a compiled model of its own with a single stream: such a model runs in the thread
that calls it, whereas one that is shared through several streams hands each job to a thread of
the runtime, a context switch that on busy cores costs more than the inference. A slot's model is
compiled for single pictures, which is faster than a flexible batch size, and once more, flexible,
when the slot's first batch comes. Pinning is off: two slots would land on one core.
"""

import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Artifact, Availability
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing, BackendUnavailable

DEVICE = "cpu"
_RANK = 2

_CAPABILITIES = {
    "FP32": Precision.FP32,
    "BF16": Precision.BF16,
    "FP16": Precision.FP16,
    "INT8": Precision.INT8,
}
_HINTS = {
    Precision.FP32: "f32",
    Precision.BF16: "bf16",
    Precision.FP16: "f16",
    Precision.INT8: "f32",  # of the few layers that are not quantised
}


@cache
def openvino() -> ModuleType:
    """The runtime, imported without its telemetry, which would report the import by network.

    Raises BackendUnavailable where it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino as runtime  # noqa: PLC0415
    except ImportError as error:
        reason = f"OpenVINO cannot be imported ({error}): pip install openvino"
        raise BackendUnavailable(BackendName.CPU, reason) from error
    return runtime  # type: ignore[no-any-return]


def probe() -> Availability:
    """The runtime's version and the precisions that this processor executes natively."""
    try:
        runtime = openvino()
    except BackendUnavailable as error:
        return Availability(
            BackendName.CPU,
            available=False,
            runtime="",
            devices=(),
            precisions=(),
            reason=error.reason,
        )
    return Availability(
        BackendName.CPU,
        available=True,
        runtime=f"openvino {runtime.__version__.split('-')[0]}",
        devices=(DEVICE,),
        precisions=_native(),
    )


class CpuBackend:
    """One artifact compiled for `slots` concurrent jobs of `threads` threads each."""

    def __init__(self, artifact: Artifact, *, slots: int, threads: int) -> None:
        if artifact.precision not in _native():
            reason = f"this processor does not compute {artifact.precision} natively"
            raise BackendUnavailable(BackendName.CPU, reason)
        self._artifact = artifact
        self._side = artifact.resolution
        self._shape = (self._side, self._side, 3)
        self._properties = _properties(artifact.precision, threads=threads)
        model = self._read(batch=1)
        self._flexible: list[Any] = [None] * slots
        self._lanes = {(slot, 1): self._lane(self._compile(model), 1) for slot in range(slots)}

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3]."""
        if pixels.shape[1:] != self._shape or pixels.dtype != np.uint8:
            wanted = f"they must be uint8 [N, {self._side}, {self._side}, 3]"
            raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}: {wanted}")
        n = len(pixels)
        lane = self._lanes.get((slot, n)) or self._batch_lane(slot, n)
        lane.pixels[...] = pixels
        lane.request.infer(share_outputs=True)
        return lane.logits.copy()

    def close(self) -> None:
        """Free the compiled models and their buffers."""
        self._flexible.clear()
        self._lanes.clear()

    def _batch_lane(self, slot: int, n: int) -> "_Lane":
        """Made on first use: few services batch on a CPU, and each graph costs memory."""
        if not (0 <= slot < len(self._flexible) and n > 0):
            raise ValueError(f"no slot {slot} or no picture in a batch of {n}; is it closed?")
        if self._flexible[slot] is None:
            self._flexible[slot] = self._compile(self._read(batch=-1))
        lane = self._lanes[slot, n] = self._lane(self._flexible[slot], n)
        return lane

    def _read(self, *, batch: int) -> Any:  # noqa: ANN401 - openvino ships no usable types
        path = self._artifact.path
        if not path.is_file():
            raise ArtifactMissing(f"{path} is missing: run `mnv4serve build`")
        u8 = openvino().Type.u8
        try:
            model = _core().read_model(path)
            model.reshape([batch, *self._shape])
        except RuntimeError as error:
            raise _mismatch(path, "OpenVINO cannot read it") from error
        if len(model.inputs) != 1 or model.input(0).element_type != u8:
            raise _mismatch(path, "it does not take uint8 pixels")
        labels = self._artifact.n_labels
        shape = model.output(0).partial_shape
        if len(model.outputs) != 1 or len(shape) != _RANK or str(shape[1]) != str(labels):
            raise _mismatch(path, f"it does not give {labels} logits")
        return model

    def _compile(self, model: Any) -> Any:  # noqa: ANN401
        try:
            return _core().compile_model(model, "CPU", self._properties)
        except RuntimeError as error:
            raise _mismatch(self._artifact.path, "OpenVINO cannot compile it") from error

    def _lane(self, compiled: Any, n: int) -> "_Lane":  # noqa: ANN401
        return _Lane(compiled.create_infer_request(), n, self._side, self._artifact.n_labels)


class _Lane:
    """An infer request with its own buffers for one slot and one batch size.

    The buffers are handed over once: naming them in each call takes the runtime's Python wrapper
    20 microseconds.
    """

    __slots__ = ("logits", "pixels", "request")

    def __init__(self, request: Any, n: int, side: int, labels: int) -> None:  # noqa: ANN401
        self.request = request
        self.pixels = np.zeros((n, side, side, 3), np.uint8)
        self.logits = np.zeros((n, labels), np.float32)
        tensor = openvino().Tensor
        request.set_input_tensor(tensor(self.pixels, shared_memory=True))
        request.set_output_tensor(tensor(self.logits, shared_memory=True))


@cache
def _core() -> Any:  # noqa: ANN401
    return openvino().Core()


@cache
def _native() -> tuple[Precision, ...]:
    found = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(precision for name, precision in _CAPABILITIES.items() if name in found)


def _properties(precision: Precision, *, threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }


def _mismatch(path: Path, what: str) -> ArtifactMismatch:
    return ArtifactMismatch(f"{path} is no such artifact, {what}: run `mnv4serve build --force`")
