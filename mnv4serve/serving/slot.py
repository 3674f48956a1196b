"""A slot: one thread that executes one job at a time, decode and inference together."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Backend
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import Arm, Picture
from mnv4serve.images import decode
from mnv4serve.serving.cores import stay_on
from mnv4serve.serving.timeslice import lengthen_timeslice

MS_PER_S = 1000.0
STOP_S = 5.0
"""How long a slot is waited for that may hang."""

Decode = Callable[[bytes, Picture, Arm], NDArray[np.uint8]]
"""Encoded picture, its header and the arm -> uint8 RGB [resolution, resolution, 3]."""


def now_ms() -> float:
    """Milliseconds of the monotonic clock that every time in serving is told by."""
    return time.perf_counter() * MS_PER_S


def decoder(preprocessing: Preprocessing, own: Mapping[str, Preprocessing] | None = None) -> Decode:
    """Bytes to pixels as a zoo wants them, and as the variants that have their `own` way do."""
    differing = own or {}

    def decoded(image: bytes, picture: Picture, arm: Arm) -> NDArray[np.uint8]:
        wanted = differing.get(arm.variant, preprocessing)
        return decode(image, picture, resolution=arm.resolution, preprocessing=wanted)

    return decoded


@dataclass(frozen=True, slots=True)
class Work:
    """What a slot has to execute for one run: every picture decoded, then one inference."""

    run_id: int
    pictures: tuple[tuple[bytes, Picture], ...]
    arm: Arm
    backend: Backend


@dataclass(frozen=True, slots=True)
class Finished:
    """What a slot reports when a run has ended."""

    run_id: int
    slot: int
    decode_ms: float
    """All pictures together."""
    service_ms: float
    results: tuple[NDArray[np.float32] | Exception, ...]
    """For each picture its logits, or what it failed with."""


class Slot:
    """A worker thread fed through a queue; `report` is called on it after each run.

    What `report` submits next is run without a trip through the event loop, during which the
    slot's core would be idle. Its thread stays on its `cores`, where there are any.
    """

    def __init__(
        self,
        index: int,
        *,
        decode: Decode,
        report: Callable[[Finished], None],
        cores: Collection[int] = (),
    ) -> None:
        self.index = index
        self._cores = cores
        self._decode = decode
        self._report = report
        self._inbox: SimpleQueue[Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"slot-{index}", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Hand over the next run; only while the slot is idle."""
        self._inbox.put(work)

    def stop(self) -> bool:
        """Let the thread end after the run it is executing; whether it did."""
        self._inbox.put(None)
        self._thread.join(timeout=STOP_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        lengthen_timeslice()
        if self._cores:
            stay_on(self._cores)
        while (work := self._inbox.get()) is not None:
            self._report(self._execute(work))

    def _execute(self, work: Work) -> Finished:
        started_ms = now_ms()
        decoded = [self._decoded(image, picture, work.arm) for image, picture in work.pictures]
        decoded_ms = now_ms()
        results = self._inferred(decoded, work.backend)
        ended_ms = now_ms()
        return Finished(
            work.run_id, self.index, decoded_ms - started_ms, ended_ms - decoded_ms, results
        )

    def _decoded(self, image: bytes, picture: Picture, arm: Arm) -> NDArray[np.uint8] | Exception:
        """A picture that cannot be decoded fails alone, not with the others of its batch."""
        try:
            return self._decode(image, picture, arm)
        except Exception as error:  # noqa: BLE001  # any failure belongs to its job, not the slot
            return error

    def _inferred(
        self, decoded: Sequence[NDArray[np.uint8] | Exception], backend: Backend
    ) -> tuple[NDArray[np.float32] | Exception, ...]:
        pixels = [one for one in decoded if not isinstance(one, Exception)]
        if not pixels:
            return tuple(one for one in decoded if isinstance(one, Exception))
        batch = pixels[0][np.newaxis] if len(pixels) == 1 else np.stack(pixels)
        try:
            logits = iter(backend.infer(batch, self.index).copy())
        except Exception as error:  # noqa: BLE001  # see above
            return tuple(one if isinstance(one, Exception) else error for one in decoded)
        return tuple(one if isinstance(one, Exception) else next(logits) for one in decoded)
