"""ONNX Runtime, on the CPU or strictly on a CUDA GPU.

Strictly: ONNX Runtime falls back to the CPU without an exception where CUDA cannot be loaded;
here that is BackendUnavailable.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Artifact, Availability, onnx_cuda
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing, BackendUnavailable

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_CPU = "CPUExecutionProvider"
_SILENT = 4


def installed() -> tuple[str, ...]:
    """Names and versions of the installed distributions of ONNX Runtime."""
    found = []
    for name in _DISTRIBUTIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return tuple(found)


def conflict(found: tuple[str, ...]) -> str:
    """Why the installed distributions cannot be used, empty where they can."""
    if len(found) > 1:
        return (
            f"{' and '.join(found)} overwrite each other: pip uninstall both, "
            "then install one of the extras mnv4serve[onnx] and mnv4serve[gpu]"
        )
    return ""


@cache
def onnxruntime() -> ModuleType:
    """The runtime, kept from logging; raises BackendUnavailable where it is missing or doubled."""
    reason = conflict(installed())
    if reason:
        raise BackendUnavailable(BackendName.ONNX, reason)
    try:
        import onnxruntime as runtime  # noqa: PLC0415
    except ImportError as error:
        reason = f"ONNX Runtime cannot be imported ({error}): pip install mnv4serve[onnx]"
        raise BackendUnavailable(BackendName.ONNX, reason) from error
    runtime.set_default_logger_severity(_SILENT)
    return runtime  # type: ignore[no-any-return]


def probe() -> Availability:
    """The runtime's version and the devices that it really sees."""
    try:
        runtime = onnxruntime()
    except BackendUnavailable as error:
        return Availability(
            BackendName.ONNX,
            available=False,
            runtime="",
            devices=(),
            precisions=(),
            reason=error.reason,
        )
    gpus = sum(device.ep_name == onnx_cuda.PROVIDER for device in runtime.get_ep_devices())
    return Availability(
        BackendName.ONNX,
        available=True,
        runtime=installed()[0] if installed() else f"onnxruntime {runtime.__version__}",
        devices=("cpu", *(f"cuda:{number}" for number in range(gpus))),
        precisions=(Precision.FP32, Precision.INT8),
    )


class OnnxBackend:
    """One session that all slots share: it is safe to run from several threads."""

    def __init__(self, artifact: Artifact, *, device: str, slots: int, threads: int) -> None:
        if not artifact.path.is_file():
            raise ArtifactMissing(f"{artifact.path} is missing: run `mnv4serve build`")
        self._artifact = artifact
        self._slots = slots
        self._shape = (artifact.resolution, artifact.resolution, 3)
        self._session = _open_session(artifact, device=device, threads=threads)
        self._check()
        self._gpu = self._lanes_on(device) if device.startswith("cuda") else None
        self._lanes: dict[tuple[int, int], _Lane] = {}

    @property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes that a GPU has captured a graph for; empty on the processor."""
        return self._gpu.sizes if self._gpu else ()

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3]."""
        if pixels.shape[1:] != self._shape or pixels.dtype != np.uint8:
            side = self._artifact.resolution
            wanted = f"they must be uint8 [N, {side}, {side}, 3]"
            raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}: {wanted}")
        if self._gpu:
            self._require(slot, len(pixels))
            return self._gpu.infer(pixels)
        lane = self._lanes.get((slot, len(pixels))) or self._lane(slot, len(pixels))
        lane.pixels[...] = pixels
        self._session.run_with_iobinding(lane.binding)
        return lane.logits.copy()

    def close(self) -> None:
        """Free the session and its buffers."""
        self._slots = 0
        self._lanes.clear()
        if self._gpu:
            self._gpu.close()
        self._gpu = self._session = None

    def _lane(self, slot: int, n: int) -> "_Lane":
        self._require(slot, n)
        lane = _Lane(self._session, (n, *self._shape), self._artifact.n_labels)
        return self._lanes.setdefault((slot, n), lane)

    def _lanes_on(self, device: str) -> onnx_cuda.GpuLanes:
        labels = self._artifact.n_labels
        return onnx_cuda.GpuLanes(
            onnxruntime(), self._session, shape=self._shape, n_labels=labels, device=device
        )

    def _require(self, slot: int, n: int) -> None:
        if not (0 <= slot < self._slots and n > 0):
            raise ValueError(f"no slot {slot} or no picture in a batch of {n}; is it closed?")

    def _check(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        path, labels = self._artifact.path, self._artifact.n_labels
        if len(inputs) != 1 or inputs[0].type != "tensor(uint8)":
            raise _mismatch(path, "it does not take uint8 pixels")
        if tuple(inputs[0].shape[1:]) != self._shape:
            raise _mismatch(path, f"it does not take pictures of {self._shape[0]} pixels a side")
        if len(outputs) != 1 or outputs[0].shape[1:] != [labels]:
            raise _mismatch(path, f"it does not give {labels} logits")


class _Lane:
    """Input and output buffers of one slot and batch size, bound once."""

    __slots__ = ("binding", "logits", "pixels")

    def __init__(self, session: Any, shape: tuple[int, ...], labels: int) -> None:  # noqa: ANN401
        self.pixels = np.zeros(shape, np.uint8)
        self.logits = np.zeros((shape[0], labels), np.float32)
        self.binding = session.io_binding()
        self.binding.bind_cpu_input(session.get_inputs()[0].name, self.pixels)
        self.binding.bind_output(
            session.get_outputs()[0].name,
            "cpu",
            0,
            np.float32,
            self.logits.shape,
            self.logits.ctypes.data,
        )


def _open_session(artifact: Artifact, *, device: str, threads: int) -> Any:  # noqa: ANN401
    runtime = onnxruntime()
    strict = device.startswith("cuda")
    options = _options(runtime, threads=threads, strict=strict)
    if strict:
        onnx_cuda.load_libraries(runtime)
    provider = onnx_cuda.provider(int(device.partition(":")[2] or "0")) if strict else _CPU
    try:
        session = runtime.InferenceSession(str(artifact.path), options, providers=[provider])
    except Exception as error:  # the runtime's exceptions share no other base
        if strict:
            raise BackendUnavailable(BackendName.ONNX, _no_cuda(device, str(error))) from error
        raise _mismatch(artifact.path, "ONNX Runtime cannot load it") from error
    active = session.get_providers()[0]
    if strict and active != onnx_cuda.PROVIDER:
        raise BackendUnavailable(BackendName.ONNX, _no_cuda(device, f"it runs on {active}"))
    return session


def _options(runtime: ModuleType, *, threads: int, strict: bool) -> Any:  # noqa: ANN401
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # Threads that spin between jobs take the processor from the jobs of other slots and arms.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _no_cuda(device: str, detail: str) -> str:
    cause = " ".join(detail.split())
    return f"{device} cannot be used ({cause}): install mnv4serve[gpu] and the NVIDIA driver"


def _mismatch(path: Path, what: str) -> ArtifactMismatch:
    return ArtifactMismatch(f"{path} is no such artifact, {what}: run `mnv4serve build --force`")
