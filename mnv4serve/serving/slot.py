"""A slot: one thread that executes one job at a time, decode and inference together."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Backend
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import Arm, Picture
from mnv4serve.images import decode

MS_PER_S = 1000.0

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
    """What a slot has to execute for one job."""

    job_id: int
    image: bytes
    picture: Picture
    arm: Arm
    backend: Backend


@dataclass(frozen=True, slots=True)
class Finished:
    """What a slot reports when a job has run; `logits` is None where `error` is not."""

    job_id: int
    slot: int
    decode_ms: float
    service_ms: float
    logits: NDArray[np.float32] | None
    error: Exception | None = None


class Slot:
    """A worker thread fed through a queue; `report` is called on it after each job.

    What `report` submits next is run without a trip through the event loop, during which the
    slot's core would be idle.
    """

    def __init__(self, index: int, *, decode: Decode, report: Callable[[Finished], None]) -> None:
        self.index = index
        self._decode = decode
        self._report = report
        self._inbox: SimpleQueue[Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"slot-{index}", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Hand over the next job; only while the slot is idle."""
        self._inbox.put(work)

    def stop(self) -> None:
        """Let the thread end after the job it is executing."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._inbox.get()) is not None:
            self._report(self._execute(work))

    def _execute(self, work: Work) -> Finished:
        started_ms = decoded_ms = now_ms()
        try:
            pixels = self._decode(work.image, work.picture, work.arm)
            decoded_ms = now_ms()
            logits = work.backend.infer(pixels[np.newaxis], self.index)[0].copy()
        except Exception as error:  # noqa: BLE001  # any failure belongs to this job, not the slot
            return Finished(
                work.job_id, self.index, decoded_ms - started_ms, now_ms() - decoded_ms, None, error
            )
        return Finished(
            work.job_id, self.index, decoded_ms - started_ms, now_ms() - decoded_ms, logits
        )
