"""Coral Edge TPUs: compiled int8 models by LiteRT with Google's libedgetpu as its delegate.

A device is open in one process, `edgetpu_owner`, and computes one picture at a time; models on the
same device share its memory, and the one that ran last has its weights there.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Artifact, Availability, Backend, is_simulated, litert, litert_file
from mnv4serve.backends.edgetpu_devices import (
    SYSFS,
    Claim,
    Trouble,
    attached,
    chosen,
    diagnose,
    library_names,
    unavailable,
)
from mnv4serve.backends.edgetpu_heat import Heat, heat_of
from mnv4serve.backends.edgetpu_latency import LINKS
from mnv4serve.backends.edgetpu_owner import Gone, Job, Owner
from mnv4serve.backends.edgetpu_package import Package
from mnv4serve.backends.edgetpu_simulated import SIMULATED, SimulatedBackend, link_of
from mnv4serve.backends.edgetpu_trial import Trial, tried
from mnv4serve.backends.flatbuffer import Malformed
from mnv4serve.backends.litert import check_ends, interpreter_module
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMissing, BackendUnavailable

logger = logging.getLogger(__name__)

COMPILED = "model_edgetpu.tflite"
"""Beside the int8 file that it was compiled from."""
REASON = "uncompiled.txt"
"""Beside it instead, where there was no compiler: why."""

REOPEN_S = 2.0
"""Between tries to open a device that is gone: each takes a process, and requests wait for it."""


def open_edgetpu(artifact: Artifact, *, device: str, slots: int, threads: int) -> Backend:
    """A model on a device, or on a simulated one where the configuration names one."""
    if is_simulated(device):
        return SimulatedBackend(artifact, link_of(device), slots=slots, threads=threads)
    return EdgeTpuBackend(artifact, device=device, slots=slots)


def probe(sysfs: Path = SYSFS) -> Availability:
    """The Edge TPUs that can be used, found by a process of its own; else why there is none."""
    try:
        found = _survey(sysfs)
        runtime = "tflite_runtime" if found.pycoral else _litert()
    except BackendUnavailable as error:
        return Availability(
            BackendName.EDGETPU,
            available=False,
            runtime="",
            devices=(),
            precisions=(),
            reason=error.reason,
        )
    return Availability(
        BackendName.EDGETPU,
        available=True,
        runtime=f"{runtime} with {found.pycoral or found.library}",
        devices=tuple(f"edgetpu:{device.path}" for device in found.devices),
        precisions=(Precision.INT8,),
    )


def probe_simulated() -> Availability:
    """A simulated device, which is there wherever LiteRT is."""
    found = litert.probe()
    if not found.available:
        return replace(found, backend=BackendName.EDGETPU)
    devices = tuple(f"edgetpu:{SIMULATED}-{link}" for link in LINKS)
    return replace(
        found, backend=BackendName.EDGETPU, devices=devices, precisions=(Precision.INT8,)
    )


def heat(device: str, sysfs: Path = SYSFS) -> Heat | None:
    """Of a device that this process has open; None where its hardware shows none."""
    return heat_of(_shared(device).path, sysfs)


class EdgeTpuBackend:
    """One compiled model on one device; its slots take turns."""

    def __init__(self, artifact: Artifact, *, device: str, slots: int) -> None:
        self._path = compiled_path(artifact)
        self._shape = (artifact.resolution, artifact.resolution, 3)
        self._labels = artifact.n_labels
        self._slots = slots
        self._device = _shared(device)
        self._device.use()
        try:
            self._run(np.empty((0, *self._shape), np.uint8))
        except BaseException:
            self._device.leave()
            raise

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3]."""
        if pixels.shape[1:] != self._shape or pixels.dtype != np.uint8:
            wanted = f"they must be uint8 [N, {self._shape[0]}, {self._shape[0]}, 3]"
            raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}: {wanted}")
        n = len(pixels)
        if not (0 <= slot < self._slots and n > 0):
            raise ValueError(f"no slot {slot} or no picture in a batch of {n}; is it closed?")
        return self._run(pixels)

    def close(self) -> None:
        """Free the interpreter, and the device after its last model."""
        if self._slots:
            self._slots = 0
            self._device.leave()

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._device.run(Job(self._path, pixels, self._labels))


def compiled_path(artifact: Artifact) -> Path:
    """The compiled file of an artifact; raises BackendUnavailable saying why there is none."""
    path = artifact.path.with_name(COMPILED)
    try:
        contents = litert_file.read(path.read_bytes())
        package = Package.of(contents) if contents.compiled else None
    except FileNotFoundError as error:
        if not artifact.path.is_file():
            raise ArtifactMissing(f"{artifact.path} is missing: run `mnv4serve build`") from error
        why = ""
        with suppress(OSError):
            why = f": {artifact.path.with_name(REASON).read_text(encoding='utf-8').strip()}"
        raise unavailable(f"{Trouble.NOT_COMPILED}{why}") from error
    except Malformed as error:
        raise unavailable(f"{path} is damaged, {error}: run `mnv4serve build --force`") from error
    if package is None:
        raise unavailable(Trouble.NOT_COMPILED)
    check_ends(contents, artifact)
    _tell(artifact.variant, package)
    return path


def _tell(variant: str, package: Package) -> None:
    """What a switch to a model and a picture on it send, for whoever wonders about latencies."""
    found = {
        "cached_bytes": package.cached_bytes,
        "streamed_bytes": package.streamed_bytes,
        "instruction_bytes": package.instruction_bytes,
        "caching_token": package.token,
    }
    logger.info("edgetpu_model", extra={"variant": variant, **found})


class _Shared:
    """A device that this process has opened, for all the models on it."""

    def __init__(self, name: str, find: Callable[[], Trial]) -> None:
        self.path = ""
        """Empty while it is not open."""
        self._turn = threading.Lock()
        self._name = name
        self._find = find
        self._users = 0
        self._claim: Claim | None = None
        self._owner: Owner | None = None
        self._gone, self._again_s = "", 0.0

    def use(self) -> None:
        """Claim and open the device for its first model."""
        with self._turn:
            if not self._users:
                self._open()
            self._users += 1

    def leave(self) -> None:
        with self._turn:
            self._users -= 1
            if not self._users:
                self._close()

    def run(self, job: Job) -> NDArray[np.float32]:
        """A model's logits on the device, which is opened anew after a failure.

        Raises BackendUnavailable while the device is gone.
        """
        with self._turn:
            owner = self._owner or self._reopened()
            try:
                return owner.run(job)
            except Gone as error:
                path = self.path
                self._close()
                reason = diagnose(attached(), path)
                raise unavailable(f"the Edge TPU does not answer: {reason}") from error

    def _reopened(self) -> Owner:
        if time.monotonic() < self._again_s:
            raise unavailable(self._gone)
        try:
            return self._open()
        except BackendUnavailable as error:
            self._gone, self._again_s = error.reason, time.monotonic() + REOPEN_S
            raise

    def _open(self) -> Owner:
        found = self._find()
        index = chosen(self._name, found.devices)
        path = found.devices[index].path
        self._claim = Claim(path)
        try:
            self._owner = Owner(found.library, f":{index}", held=[self._claim.handle])
        except Gone as error:
            self._close()
            raise unavailable(diagnose(attached(), path)) from error
        except BackendUnavailable:
            self._close()
            raise
        self.path = path
        return self._owner

    def _close(self) -> None:
        self.path = ""
        if self._owner:
            self._owner.close()
            self._owner = None
        if self._claim:
            self._claim.release()
            self._claim = None


@cache
def _shared(name: str) -> _Shared:
    return _Shared(name, lambda: _survey(SYSFS))


def _litert() -> str:
    return interpreter_module().__name__.partition(".")[0]


def _survey(sysfs: Path) -> Trial:
    """The library and its devices; raises BackendUnavailable where either is missing."""
    found = tried(library_names())
    if not found.library:
        raise unavailable(Trouble.NO_LIBRARY)
    if not found.devices:
        raise unavailable(diagnose(attached(sysfs)))
    return found
