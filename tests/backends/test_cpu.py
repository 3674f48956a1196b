"""Behaviour of mnv4serve.backends.cpu beyond the common contract."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mnv4serve.backends import cpu
from mnv4serve.backends.cpu import CpuBackend
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BackendUnavailable
from tests.backends.tiny import artifact, pictures

pytest.importorskip("openvino", reason="OpenVINO is not installed")


def test_probe_tells_version_and_native_precisions() -> None:
    """fp32 always counts as native; the version is the runtime's."""
    found = cpu.probe()

    assert found.available
    assert found.runtime.startswith("openvino 20")
    assert found.devices == ("cpu",)
    assert Precision.FP32 in found.precisions


def test_fp32_is_exact_and_bf16_is_near(network: Path) -> None:
    """The precision asked for is the one computed in, not the runtime's own choice."""
    if Precision.BF16 not in cpu.probe().precisions:
        pytest.skip("this processor has no bf16")
    pixels = pictures(1)
    logits = {}
    for precision in (Precision.FP32, Precision.BF16):
        opened = CpuBackend(
            artifact(network, BackendName.CPU, precision=precision), slots=1, threads=1
        )
        with closing(opened) as backend:
            logits[precision] = backend.infer(pixels)

    deviation = np.abs(logits[Precision.FP32] - logits[Precision.BF16]).max()
    assert 1e-5 < deviation < 0.1 * np.abs(logits[Precision.FP32]).max()


def test_a_precision_that_is_not_native_is_refused(network: Path) -> None:
    """fp16 would only be emulated on an x86 processor without it."""
    if Precision.FP16 in cpu.probe().precisions:
        pytest.skip("this processor computes fp16")

    with pytest.raises(BackendUnavailable, match="fp16"):
        CpuBackend(artifact(network, BackendName.CPU, precision=Precision.FP16), slots=1, threads=1)


def test_an_inference_runs_in_the_thread_that_asks(network: Path) -> None:
    """No hand-over to a thread of the runtime: it would cost a context switch per job."""
    resource = pytest.importorskip("resource", reason="only Unix counts context switches")
    opened = CpuBackend(artifact(network, BackendName.CPU), slots=2, threads=1)
    with closing(opened) as backend:
        for _ in range(10):
            backend.infer(pictures(1), 1)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        for _ in range(200):
            backend.infer(pictures(1), 1)
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    assert switches < 100


def test_no_telemetry_is_loaded() -> None:
    """Opening the runtime leaves its telemetry package out."""
    code = (
        "import sys; from mnv4serve.backends.cpu import probe; probe(); "
        "sys.exit(any(n.startswith('openvino_telemetry.') for n in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
