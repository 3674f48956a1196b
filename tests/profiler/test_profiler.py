"""Behaviour of mnv4serve.profiler as a whole, on a tiny network."""

import tempfile
from pathlib import Path

import pytest

from mnv4serve.backends import probe
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import Arm, BackendName, Precision, Timing
from mnv4serve.errors import ProfileError
from mnv4serve.profiler import (
    Candidate,
    Layout,
    _batch_sizes,
    _switching,
    load,
    measure_host,
    save,
)

HALF = (0.5, 0.5, 0.5)
SQUASH = Preprocessing(resize="squash", mean=HALF, std=HALF)
BOTH = (Layout(slots=2, threads=1), Layout(slots=1, threads=2))


@pytest.fixture(autouse=True)
def lock_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for a profiler that happens to run on this host."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def candidates(tmp_path: Path) -> list[Candidate]:
    pytest.importorskip("onnx", reason="the tiny network is made with onnx")
    from tests.backends.tiny import SIDE, artifact, write_network  # noqa: PLC0415

    path = write_network(tmp_path / "tiny.onnx")
    names = [n for n in (BackendName.CPU, BackendName.ONNX) if probe(n).available]
    return [
        Candidate(Arm("tiny@32", name, Precision.FP32, "cpu", SIDE), artifact(path, name))
        for name in names
    ]


def test_a_quick_profile_covers_every_arm(candidates: list[Candidate], tmp_path: Path) -> None:
    """Every arm has a service time, progress reaches each, and the result can be stored."""
    told: list[tuple[str, int, int]] = []

    profile = measure_host(
        candidates,
        fingerprint="ab" * 32,
        preprocessing=SQUASH,
        choices=BOTH,
        quick=True,
        progress=lambda *step: told.append(step),
    )

    arm_ids = [candidate.arm.id for candidate in candidates]
    assert list(profile.timings) == arm_ids
    assert all(by_batch[1].p50_ms > 0 for by_batch in profile.timings.values())
    assert Layout(profile.slots, profile.threads) in BOTH
    assert [name for name, _, _ in told if "/" in name] == arm_ids
    assert {total for _, _, total in told} == {len(candidates) + 2}
    save(profile, tmp_path)
    assert load(profile.fingerprint, tmp_path) == profile


def test_a_configured_layout_is_taken_as_given(candidates: list[Candidate]) -> None:
    """With a single choice nothing is compared."""
    profile = measure_host(
        candidates[:1],
        fingerprint="ab" * 32,
        preprocessing=SQUASH,
        choices=BOTH[1:],
        quick=True,
        progress=lambda *_: None,
    )

    assert (profile.slots, profile.threads) == (1, 2)


def test_what_a_switch_costs_is_part_of_the_profile(tmp_path: Path) -> None:
    """Of arms that displace each other on a device; one alone is never displaced."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    pytest.importorskip("torch", reason="the tiny int8 network is made with torch's graph")
    from tests.backends.tiny import SIDE, artifact, write_int8  # noqa: PLC0415

    path = write_int8(tmp_path / "tiny.tflite")
    described = artifact(path, BackendName.EDGETPU, precision=Precision.INT8)
    arms = [Arm(n, BackendName.EDGETPU, Precision.INT8, "edgetpu", SIDE) for n in ("a", "b")]
    shared = [Candidate(arm, described, "edgetpu:simulated-usb2") for arm in arms]
    timings = {arm.id: {1: Timing(0.01, 0.01, None, 20)} for arm in arms}

    found = _switching(shared, Layout(1, 1), timings)

    assert set(found) == {arm.id for arm in arms}
    assert all(cost_ms > 0.0 for cost_ms in found.values())
    assert _switching(shared[:1], Layout(1, 1), timings) == {}


def test_batches_on_a_gpu_are_measured_even_when_it_has_to_be_quick() -> None:
    """Each batch size that has a graph of its own; the name of the device decides."""
    assert _batch_sizes("cuda:1", quick=True) == (1, 2, 4, 8, 16, 32)
    assert _batch_sizes("cpu", quick=True) == (1,)


def test_nothing_to_measure_is_an_error() -> None:
    """Without artifacts the message names the command that builds them."""
    with pytest.raises(ProfileError, match="mnv4serve build"):
        measure_host(
            [],
            fingerprint="ab" * 32,
            preprocessing=SQUASH,
            choices=BOTH,
            quick=True,
            progress=lambda *_: None,
        )
