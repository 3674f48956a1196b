"""Behaviour of mnv4serve.backends.cuda_device."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnv4serve.backends import cuda_device, open_backend, probe
from mnv4serve.backends.cuda_device import Facts, Gpu, judged, precisions, supported
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BackendUnavailable
from tests.backends.tiny import artifact

GENERATIONS = ("sm_75", "sm_80", "sm_90", "sm_120", "compute_120")
H100 = Gpu("NVIDIA H100", (9, 0), 80 << 30)
T4 = Gpu("Tesla T4", (7, 5), 16 << 30)
P100 = Gpu("Tesla P100", (6, 0), 16 << 30)
WHOLE = Facts("2.13.0", "13.0", driver=True, gpus=(H100,), generations=GENERATIONS)


def test_a_gpu_that_works_is_available() -> None:
    """With its devices, its precisions, and a runtime that tells one model from another."""
    found = judged(WHOLE)

    assert found.available
    assert found.reason == ""
    assert found.devices == ("cuda:0",)
    assert found.precisions == (Precision.FP32, Precision.FP16, Precision.BF16)
    assert found.runtime == "torch 2.13.0, CUDA 13.0, NVIDIA H100"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Facts(), "pip install"),
        (Facts("2.13.0+cpu"), "built without CUDA"),
        (Facts("2.13.0", "13.0"), "no NVIDIA driver"),
        (replace(WHOLE, gpus=(), trouble="the driver is too old"), "the driver is too old"),
        (replace(WHOLE, gpus=()), "CUDA_VISIBLE_DEVICES"),
        (replace(WHOLE, gpus=(P100,)), r"no code for Tesla P100 \(6.0\)"),
    ],
)
def test_every_obstacle_has_its_own_reason(found: Facts, reason: str) -> None:
    """The first thing that has to be put right is named, and nothing is offered."""
    verdict = judged(found)

    assert not verdict.available
    assert verdict.devices == ()
    assert verdict.precisions == ()
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(verdict.reason)


def test_only_the_gpus_that_work_are_listed() -> None:
    """An old one beside a new one keeps its number, and what all the others share is offered."""
    found = judged(replace(WHOLE, gpus=(P100, H100, T4)))

    assert found.devices == ("cuda:1", "cuda:2")
    assert found.precisions == (Precision.FP32, Precision.FP16)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), (Precision.FP32,)),
        ((7, 0), (Precision.FP32, Precision.FP16)),
        ((7, 5), (Precision.FP32, Precision.FP16)),
        ((8, 0), (Precision.FP32, Precision.FP16, Precision.BF16)),
        ((12, 0), (Precision.FP32, Precision.FP16, Precision.BF16)),
    ],
)
def test_precisions_are_those_of_the_generation(
    capability: tuple[int, int], expected: tuple[Precision, ...]
) -> None:
    """Half precision counts where there is hardware for it, not where it is emulated."""
    assert precisions(capability) == expected


@pytest.mark.parametrize(
    ("capability", "generations", "expected"),
    [
        ((8, 6), ("sm_80",), True),
        ((8, 0), ("sm_86",), False),
        ((9, 0), ("sm_80",), False),
        ((9, 0), ("sm_80", "compute_80"), True),
        ((12, 0), ("sm_120",), True),
        ((10, 0), ("sm_100a",), True),
        ((7, 0), GENERATIONS, False),
    ],
)
def test_code_runs_on_its_major_version_and_portable_code_on_later_ones(
    capability: tuple[int, int], generations: tuple[str, ...], *, expected: bool
) -> None:
    """As NVIDIA defines it for compiled and for intermediate code."""
    assert supported(capability, generations) is expected


def test_a_device_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` is the first one; one that is not there is refused with those that are."""
    monkeypatch.setattr(cuda_device, "facts", lambda: replace(WHOLE, gpus=(H100, T4)))

    assert cuda_device.require("cuda") == 0
    assert cuda_device.require("cuda:1") == 1
    with pytest.raises(BackendUnavailable, match=r"cuda:2 here, only cuda:0, cuda:1"):
        cuda_device.require("cuda:2")
    with pytest.raises(BackendUnavailable, match="no cpu here"):
        cuda_device.require("cpu")


def test_here_the_probe_and_opening_agree(tmp_path: Path) -> None:
    """Without a GPU both say the same reason; with one the probe lists it."""
    found = probe(BackendName.CUDA)
    if found.available:
        assert found.devices
        return

    described = artifact(tmp_path / "none", BackendName.CUDA)
    with pytest.raises(BackendUnavailable) as refused:
        open_backend(described, device="cuda:0", slots=1, threads=1)

    assert refused.value.reason == found.reason
