"""The simulated Edge TPU: LiteRT's answers, the model's time, nothing by accident."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from mnv4serve.backends import is_simulated, open_backend
from mnv4serve.backends.edgetpu_latency import LINKS
from mnv4serve.backends.edgetpu_simulated import Chip, Clock, SimulatedBackend, link_of
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BadConfig
from tests.backends.tiny import artifact, pictures


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_ms = 0.0

    def sleep(self, pause_ms: float) -> None:
        self.now_ms += pause_ms + 0.2

    def clock(self) -> Clock:
        return Clock(lambda: self.now_ms, self.sleep)


def simulated(path: Path, chip: Chip, time: FakeTime) -> SimulatedBackend:
    described = artifact(path, BackendName.EDGETPU, precision=Precision.INT8)
    return SimulatedBackend(
        described, LINKS["usb2"], slots=1, threads=1, chip=chip, clock=time.clock()
    )


def test_answers_are_those_of_litert(int8_network: Path) -> None:
    """The same integers, wherever they are computed."""
    described = artifact(int8_network, BackendName.EDGETPU, precision=Precision.INT8)
    plain = artifact(int8_network, BackendName.LITERT, precision=Precision.INT8)
    pixels = pictures(3)

    chip = open_backend(described, device="edgetpu:simulated-pcie", slots=1, threads=1)
    processor = open_backend(plain, device="cpu", slots=1, threads=1)

    with closing(chip), closing(processor):
        assert np.array_equal(chip.infer(pixels), processor.infer(pixels))


def test_a_run_takes_what_the_model_predicts(int8_network: Path) -> None:
    """The upload once, then the predicted time for each picture of a batch."""
    time, chip = FakeTime(), Chip()
    backend = simulated(int8_network, chip, time)

    def taken_ms(n: int) -> float:
        begin_ms = time.now_ms
        backend.infer(pictures(n))
        return time.now_ms - begin_ms

    first_ms, second_ms, batch_ms = taken_ms(1), taken_ms(1), taken_ms(4)

    assert first_ms == pytest.approx(backend.predicted_ms + backend.upload_ms, abs=0.1)
    assert second_ms == pytest.approx(backend.predicted_ms, abs=0.1)
    assert batch_ms == pytest.approx(4 * backend.predicted_ms, abs=0.1)


def test_two_models_send_their_weights_in_turn(int8_network: Path) -> None:
    """Switching costs the upload again, staying does not."""
    time, chip = FakeTime(), Chip()
    one, other = (simulated(int8_network, chip, time) for _ in range(2))

    for backend in (one, one, other, one):
        backend.infer(pictures(1))

    assert chip.uploads == 3


def test_only_its_own_name_makes_a_device_simulated() -> None:
    """Nothing that a real device is called counts."""
    assert is_simulated("edgetpu:simulated")
    assert is_simulated("edgetpu:simulated-pi4")
    for real in ("cpu", "edgetpu", "edgetpu:0", "edgetpu:/dev/apex_0", "simulated"):
        assert not is_simulated(real)


def test_an_unknown_link_is_refused() -> None:
    """The sentence names those there are; none named is the desktop's."""
    assert link_of("edgetpu:simulated") == LINKS["usb3"]
    assert link_of("edgetpu:simulated-pi4") == LINKS["pi4"]
    with pytest.raises(BadConfig, match="edgetpu:simulated-pcie"):
        link_of("edgetpu:simulated-firewire")
