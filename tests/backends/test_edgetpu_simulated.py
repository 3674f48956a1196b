"""The simulated Edge TPU: LiteRT's answers, the model's time, nothing by accident."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from mnv4serve.backends import edgetpu_simulated, is_simulated, open_backend
from mnv4serve.backends.edgetpu_latency import LINKS
from mnv4serve.backends.edgetpu_simulated import Chip, Clock, SimulatedBackend, link_of
from mnv4serve.domain import Arm, BackendName, Picture, Precision, Terms, Timing
from mnv4serve.errors import BadConfig
from mnv4serve.profiler import first_run_ms
from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.planner import Pool, Rules, admit
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.predict import Predictor
from mnv4serve.router.residency import residency_of
from mnv4serve.router.schedule import Ledger
from tests.backends.tiny import SIDE, artifact, pictures

TICK_MS = 0.001


class FakeTime:
    """A clock that sleeping moves, and looking at it a little, so that watching it ends."""

    def __init__(self) -> None:
        self.now_ms = 0.0

    def sleep(self, pause_ms: float) -> None:
        self.now_ms += pause_ms

    def look(self) -> float:
        self.now_ms += TICK_MS
        return self.now_ms

    def clock(self) -> Clock:
        return Clock(self.look, self.sleep)


def simulated(path: Path, chip: Chip, time: FakeTime, *, link: str = "usb2") -> SimulatedBackend:
    described = artifact(path, BackendName.EDGETPU, precision=Precision.INT8)
    return SimulatedBackend(
        described, LINKS[link], slots=1, threads=1, chip=chip, clock=time.clock()
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


def test_its_first_use_is_logged(int8_network: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Marked as simulated, once for all models on it."""
    caplog.set_level("INFO", logger="mnv4serve")
    edgetpu_simulated._chip_on.cache_clear()
    described = artifact(int8_network, BackendName.EDGETPU, precision=Precision.INT8)

    for _ in range(2):
        open_backend(described, device="edgetpu:simulated-pi4", slots=1, threads=1).close()

    (record,) = caplog.records
    assert record.message == "device_simulated"
    assert (vars(record)["link"], vars(record)["simulated"]) == ("pi4", True)


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


def test_the_profiler_measures_what_a_switch_takes(int8_network: Path) -> None:
    """The first picture after another model takes the upload longer than the next ones."""
    time, chip = FakeTime(), Chip()
    one, other = (simulated(int8_network, chip, time) for _ in range(2))
    arm = Arm("tiny", BackendName.EDGETPU, Precision.INT8, "edgetpu", SIDE)

    first_ms = first_run_ms((one, arm), (other, arm), clock=lambda: time.now_ms / 1000)

    assert first_ms == pytest.approx(other.predicted_ms + other.upload_ms, abs=0.1)


LINK_NAMES = tuple(LINKS)
PHOTO = Picture("JPEG", width=500, height=375, n_bytes=100_000)
NOTHING = DecodeCost(0.0, 0.0, 0.0, 0.0, 0.0)
JOBS = st.tuples(st.sampled_from(LINK_NAMES), st.integers(500, 900))
"""Whose model, and the budget in milliseconds."""


def predicting_pool(backends: dict[str, SimulatedBackend]) -> Pool:
    """One device with a model for each link, so that all of them take another time."""
    arms = {
        name: Arm(name, BackendName.EDGETPU, Precision.INT8, "edgetpu", SIDE, 0.8)
        for name in backends
    }
    takes_ms = {name: backend.predicted_ms for name, backend in backends.items()}
    timings = {arms[name].id: {1: Timing(ms, ms, ms, 50)} for name, ms in takes_ms.items()}
    uploads_ms = {arms[name].id: backend.upload_ms for name, backend in backends.items()}
    predictor = Predictor(timings=timings, decode=NOTHING, reply_ms=0.0)
    ledger = Ledger(slots=1, max_queue=64, residency=residency_of(uploads_ms))
    return Pool("edgetpu", tuple(arms.values()), predictor, ledger, Priced())


def admitted(pool: Pool, number: int, model: str, budget_ms: float) -> Job:
    """Queued with its model pinned, so that prediction and device run the same sequence."""
    request = Request(number, PHOTO, Terms(budget_ms=budget_ms, variant=model), 0.0)
    job = admit([pool], request, now_ms=0.0, rules=Rules())
    assert isinstance(job, Job)
    pool.ledger.admit(job)
    return job


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(JOBS, min_size=1, max_size=10))
def test_a_sequence_takes_what_the_router_predicts(
    int8_network: Path, asked: Sequence[tuple[str, int]]
) -> None:
    """Waits with every switch on the way: for each job that nothing was put before later."""
    time, chip = FakeTime(), Chip()
    backends = {name: simulated(int8_network, chip, time, link=name) for name in LINK_NAMES}
    pool = predicting_pool(backends)

    jobs = [admitted(pool, number, *job) for number, job in enumerate(asked)]
    ends_ms = {}
    for job in pool.ledger.ready(0.0):
        backends[job.arm.variant].infer(pictures(1))
        ends_ms[job.id] = time.now_ms

    for job in jobs:
        later = jobs[job.id + 1 :]
        if all(other.deadline_ms >= job.deadline_ms for other in later):
            assert job.plan.predicted_ms == pytest.approx(
                ends_ms[job.id], abs=5 * TICK_MS * len(jobs)
            )
