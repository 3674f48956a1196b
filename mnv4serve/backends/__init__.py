"""The contract every backend keeps, and the only dispatch on a backend's name.

A backend is opened once per artifact and executes batches of uint8 RGB pictures; it knows
nothing of requests, budgets or routing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends.edgetpu_heat import Heat
from mnv4serve.catalog import Network, Preprocessing
from mnv4serve.domain import BackendName, Precision

Thermometer = Callable[[], Heat | None]
"""Reads a device's temperature; None while it shows none."""
LEAST_PROBABILITY = 1e-7
"""Added before probabilities become logits: of zero there is no logarithm."""
LUMINANCE = (0.299, 0.587, 0.114)
"""What each colour adds to the brightness of a grey picture (ITU-R 601)."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """The file that a backend loads, with what it has to know to run it."""

    path: Path
    backend: BackendName
    precision: Precision
    variant: str
    resolution: int
    n_labels: int
    digest: str
    """Hash of all that made the artifact."""
    network: Network | None = None
    preprocessing: Preprocessing | None = None
    """Both of somebody else's network only."""


class Backend(Protocol):
    """One loaded artifact that runs on up to `slots` threads at once."""

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3].

        Blocking and free of the interpreter lock while computing. Two calls may run at the same
        time when their slots differ. The result is the caller's until the slot's next call.
        """
        ...

    def close(self) -> None:
        """Free the memory; the backend cannot be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Availability:
    """What a backend found on this machine."""

    backend: BackendName
    available: bool
    runtime: str
    """Name and version of the runtime, empty where it is not installed."""
    devices: tuple[str, ...]
    precisions: tuple[Precision, ...]
    """Precisions this hardware executes natively."""
    reason: str = ""
    """Why it is not available."""


def open_backend(artifact: Artifact, *, device: str, slots: int, threads: int) -> Backend:
    """Load an artifact on a device for `slots` concurrent jobs of `threads` threads each.

    Raises BackendUnavailable where the runtime or the device is missing, ArtifactMismatch where
    the file is not what the artifact says.
    """
    opened = _open(artifact, device=device, slots=slots, threads=threads)
    batch = artifact.network.batch if artifact.network else None
    if batch is None or artifact.backend is BackendName.LITERT:
        return opened
    from mnv4serve.backends.fixed_batch import FixedBatch  # noqa: PLC0415

    return FixedBatch(opened, batch)


def _open(artifact: Artifact, *, device: str, slots: int, threads: int) -> Backend:
    match artifact.backend:
        case BackendName.CPU:
            from mnv4serve.backends.cpu import CpuBackend  # noqa: PLC0415

            return CpuBackend(artifact, slots=slots, threads=threads)
        case BackendName.ONNX:
            from mnv4serve.backends.onnx import OnnxBackend  # noqa: PLC0415

            return OnnxBackend(artifact, device=device, slots=slots, threads=threads)
        case BackendName.LITERT:
            from mnv4serve.backends.litert import LitertBackend  # noqa: PLC0415

            if artifact.network is None:
                return LitertBackend(artifact, slots=slots, threads=threads)
            from mnv4serve.backends.litert_network import LitertNetwork  # noqa: PLC0415

            return LitertNetwork(artifact, slots=slots, threads=threads)
        case BackendName.EDGETPU:
            from mnv4serve.backends.edgetpu import open_edgetpu  # noqa: PLC0415

            return open_edgetpu(artifact, device=device, slots=slots, threads=threads)
        case BackendName.CUDA:
            from mnv4serve.backends import cuda_device  # noqa: PLC0415

            cuda_device.require(device)
            from mnv4serve.backends.cuda import open_cuda  # noqa: PLC0415  # imports torch

            return open_cuda(artifact, device=device, slots=slots)


def holds_one_model(backend: BackendName) -> bool:
    """Whether a device of this backend has to be sent a model's weights after another one ran."""
    return backend is BackendName.EDGETPU


def thermometer(backend: BackendName, device: str) -> Thermometer | None:
    """What reads how hot an open device is; None where hardware of its kind never shows it."""
    if backend is not BackendName.EDGETPU or is_simulated(device):
        return None
    from mnv4serve.backends import edgetpu  # noqa: PLC0415

    return partial(edgetpu.heat, device)


def is_simulated(device: str) -> bool:
    """Whether a device, as the configuration names it, only takes the time of a real one."""
    return device.partition(":")[2].startswith("simulated")


def has_device(found: Availability, device: str) -> bool:
    """Whether a device is there; `cuda` alone is the first one, `edgetpu:1` the second found."""
    kind, _, wanted = device.partition(":")
    same = [there for there in found.devices if there.partition(":")[0] == kind]
    if device in same or not wanted:
        return bool(same)
    if is_simulated(device):  # which of their links there are is known when one is opened
        return any(is_simulated(there) for there in same)
    counted = kind == BackendName.EDGETPU and wanted.isdigit()
    return counted and int(wanted) < len(same)


def probe(backend: BackendName, *, simulated: bool = False) -> Availability:
    """What this machine offers a backend, found without loading an artifact."""
    match backend:
        case BackendName.CPU:
            from mnv4serve.backends import cpu  # noqa: PLC0415

            return cpu.probe()
        case BackendName.ONNX:
            from mnv4serve.backends import onnx  # noqa: PLC0415

            return onnx.probe()
        case BackendName.LITERT:
            from mnv4serve.backends import litert  # noqa: PLC0415

            return litert.probe()
        case BackendName.EDGETPU:
            from mnv4serve.backends import edgetpu  # noqa: PLC0415

            return edgetpu.probe_simulated() if simulated else edgetpu.probe()
        case BackendName.CUDA:
            from mnv4serve.backends import cuda_device  # noqa: PLC0415

            return cuda_device.probe()
