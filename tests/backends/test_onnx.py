"""Behaviour of mnv4serve.backends.onnx beyond the common contract."""

from pathlib import Path

import pytest

from mnv4serve.backends import onnx
from mnv4serve.backends.onnx import OnnxBackend
from mnv4serve.domain import BackendName
from mnv4serve.errors import BackendUnavailable
from tests.backends.tiny import artifact

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


def test_two_distributions_are_a_conflict() -> None:
    """With both installed the sentence names both and what to do."""
    both = ("onnxruntime 1.32.0", "onnxruntime-gpu 1.32.0")

    sentence = onnx.conflict(both)

    assert "onnxruntime 1.32.0" in sentence
    assert "onnxruntime-gpu 1.32.0" in sentence
    assert "uninstall" in sentence
    assert onnx.conflict(both[:1]) == onnx.conflict(()) == ""


def test_a_conflict_makes_the_backend_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """probe tells the conflict as its reason, and opening refuses."""
    monkeypatch.setattr(onnx, "version", lambda _: "1.32.0")
    onnx.onnxruntime.cache_clear()

    found = onnx.probe()

    assert not found.available
    assert "uninstall" in found.reason
    with pytest.raises(BackendUnavailable, match="uninstall"):
        onnx.onnxruntime()


def test_probe_lists_only_devices_that_exist() -> None:
    """The processor is always there; GPUs only where the runtime really sees them."""
    found = onnx.probe()

    assert found.available
    assert found.runtime.startswith("onnxruntime")
    assert found.devices[0] == "cpu"
    assert all(device.startswith("cuda:") for device in found.devices[1:])


def test_cuda_is_never_replaced_by_the_cpu(network: Path) -> None:
    """Without a GPU, asking for one fails instead of running on the processor."""
    if len(onnx.probe().devices) > 1:
        pytest.skip("this machine has a GPU")

    with pytest.raises(BackendUnavailable, match="cuda:0"):
        OnnxBackend(artifact(network, BackendName.ONNX), device="cuda:0", slots=1, threads=1)
