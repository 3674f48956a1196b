"""Behaviour of mnv4serve.cli.models."""

from pathlib import Path

import pytest

from mnv4serve.backends import Artifact
from mnv4serve.build import Built, litert_gates
from mnv4serve.cli.models import _streaming
from mnv4serve.domain import BackendName, Precision

FILE = Path(__file__).parents[2] / "models" / "litert" / "imagenette" / "conv_small@160.tflite"


def built(backend: BackendName) -> Built:
    artifact = Artifact(FILE, backend, Precision.INT8, "conv_small@160", 160, 10, "0")
    return Built((artifact,), ())


def test_a_network_larger_than_the_chip_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is sent for every picture; on a processor nothing is."""
    assert list(_streaming(built(BackendName.EDGETPU))) == []

    monkeypatch.setattr(litert_gates, "PARAMETER_MEMORY_BYTES", 1000)

    (note,) = _streaming(built(BackendName.EDGETPU))
    assert note.startswith("conv_small@160 on an Edge TPU streams ")
    assert list(_streaming(built(BackendName.LITERT))) == []
