"""A simulated Edge TPU, for developing without one: LiteRT's answers in the chip's time.

It is used only where a configuration names the device `edgetpu:simulated-LINK`; everything that
it serves says so. It computes on the processor that it pretends to relieve.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Artifact, litert_file
from mnv4serve.backends.edgetpu_latency import LINKS, Link, Work, predicted_ms, upload_ms
from mnv4serve.backends.litert import LitertBackend
from mnv4serve.errors import BadConfig

logger = logging.getLogger(__name__)

SIMULATED = "simulated"
DEFAULT_LINK = "usb3"
_SPIN_MS = 0.15
"""The end of a wait, during which sleeping would overshoot."""


@dataclass(slots=True)
class Chip:
    """One simulated chip: one picture at a time, the weights of one model on board."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    resident: object = None
    uploads: int = 0

    def load(self, model: object) -> bool:
        """Put a model's weights on board; whether they had to be sent."""
        sent = self.resident is not model
        self.resident = model
        self.uploads += sent
        return sent


@dataclass(frozen=True, slots=True)
class Clock:
    """What tells and passes the time."""

    now_ms: Callable[[], float] = lambda: time.perf_counter() * 1000
    sleep_ms: Callable[[float], None] = lambda pause_ms: time.sleep(pause_ms / 1000)

    def wait_until(self, end_ms: float) -> None:
        """Sleep, and for the last moment watch the clock."""
        rest_ms = end_ms - self.now_ms() - _SPIN_MS
        if rest_ms > 0:
            self.sleep_ms(rest_ms)
        while self.now_ms() < end_ms:
            pass


class SimulatedBackend:
    """An int8 model on a simulated chip; its slots take turns."""

    def __init__(
        self,
        artifact: Artifact,
        link: Link,
        *,
        slots: int,
        threads: int,
        chip: Chip | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._computing = LitertBackend(artifact, slots=slots, threads=threads)
        self._chip = chip or _chip_on(link)
        self._clock = clock or Clock()
        work = Work.of(litert_file.read(artifact.path.read_bytes()))
        self.predicted_ms = predicted_ms(work, link)
        self.upload_ms = upload_ms(work, link)

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3], as late as the chip's."""
        with self._chip.turn:
            begin_ms = self._clock.now_ms()
            logits = self._computing.infer(pixels, slot)
            taken_ms = self.predicted_ms * len(pixels)
            if self._chip.load(self):
                taken_ms += self.upload_ms
            self._clock.wait_until(begin_ms + taken_ms)
        return logits

    def close(self) -> None:
        """Free what computes."""
        self._computing.close()


def link_of(device: str) -> Link:
    """The link in `edgetpu:simulated-LINK`; raises BadConfig naming those there are."""
    name = device.partition(f":{SIMULATED}")[2].removeprefix("-") or DEFAULT_LINK
    if name not in LINKS:
        known = ", ".join(f"edgetpu:{SIMULATED}-{link}" for link in LINKS)
        raise BadConfig(f"there is no device {device}; simulated ones are {known}")
    return LINKS[name]


@cache
def _chip_on(link: Link) -> Chip:
    """Models on the same link share a chip, whose first use is told."""
    name = next(name for name, known in LINKS.items() if known == link)
    logger.info("device_simulated", extra={"link": name, "simulated": True})
    return Chip()
