"""Behaviour of mnv4serve.serving.rehearsal."""

import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import override

from mnv4serve.domain import Arm
from mnv4serve.serving.pool import Pool, Resident
from mnv4serve.serving.rehearsal import ROUNDS, Lent, rehearse
from mnv4serve.serving.site import Assembled
from mnv4serve.serving.slot import decoder
from tests.serving.rig import FAST, GOOD, LABELS, PREPROCESSING, FakeBackend, make_pool

SLOTS = 2


class Watched(FakeBackend):
    """Remembers the slots and sizes of what it ran."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(delay_ms=5.0, error=error)
        self.ran: list[tuple[int, tuple[int, ...]]] = []

    @override
    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        self.ran.append((slot, pixels.shape))
        return super().infer(pixels, slot)


def _assembled(backends: dict[Arm, Watched]) -> Assembled:
    """A new pool on backends that somebody else owns."""
    lock = threading.Lock()
    made, _ = make_pool({arm: {1: 0.1} for arm in backends}, lock=lock, slots=SLOTS)
    residents = [Resident(arm, Lent(backend)) for arm, backend in backends.items()]
    pool = Pool(made.routing, residents=residents, rules=made._rules, lock=lock)
    return Assembled((pool,), (), decoder(PREPROCESSING), lock)


def test_every_arm_runs_over_both_protocols() -> None:
    """At its own resolution, on more than one slot, and whoever owns the backends keeps them."""
    backends = {FAST: Watched(), GOOD: Watched()}

    rehearse(_assembled(backends), labels=LABELS)

    for arm, backend in backends.items():
        assert len(backend.ran) >= 2 * ROUNDS * SLOTS
        assert {shape for _, shape in backend.ran} == {(1, arm.resolution, arm.resolution, 3)}
        assert {slot for slot, _ in backend.ran} == set(range(SLOTS))
        assert not backend.closed


def test_a_backend_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The other arms are rehearsed all the same; its failure is in the log."""
    broken, good = Watched(error=RuntimeError("no")), Watched()

    rehearse(_assembled({FAST: broken, GOOD: good}), labels=LABELS)

    assert good.ran
    assert "request_failed" in {record.message for record in caplog.records}
