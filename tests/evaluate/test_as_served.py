"""Behaviour of loadtests.evaluate.as_served."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from loadtests.evaluate.as_served import ROUNDS, Work, measure
from mnv4serve.domain import Arm, Picture
from tests.simulate.builders import kind

PICTURES = (Picture("JPEG", 8, 8, 10), Picture("JPEG", 16, 16, 20))


class Counting:
    """A backend that notes what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self._lock = Lock()

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        with self._lock:
            self.seen.append((int(pixels[0, 0]), slot))
        return np.zeros((1, 1), np.float32)

    def close(self) -> None:
        pass


def decode(image: bytes, picture: Picture, arm: Arm) -> NDArray[np.uint8]:
    del picture, arm
    return np.frombuffer(image, np.uint8)


def test_every_arm_meets_every_photo_in_every_slot() -> None:
    """Each pair as often as there are rounds, and every arm and picture gets its figures."""
    arms = kind((1.0, 0.7), (2.0, 0.8)).arms
    backends = [Counting(), Counting()]

    found = measure(Work(arms, backends, (b"\x00", b"\x01"), PICTURES, decode), slots=2)

    wanted = sorted([(photo, slot) for photo in (0, 1) for slot in (0, 1)] * ROUNDS)
    assert [sorted(backend.seen) for backend in backends] == [wanted, wanted]
    assert set(found.timings) == {arm.id for arm in arms}
    assert all(by_batch[1].n == 4 * ROUNDS for by_batch in found.timings.values())
    assert set(found.decodings) == {(picture, 160) for picture in PICTURES}
