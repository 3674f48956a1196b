"""Behaviour of mnv4serve.backends.litert beyond the common contract."""

import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from mnv4serve.backends import litert
from mnv4serve.backends.litert import LitertBackend, open_interpreter
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch
from tests.backends.tiny import artifact, pictures

COMPILED = (
    Path(__file__).parents[3] / "shared/data/edgetpu/mobilenet_v1_0.25_128_quant_edgetpu.tflite"
)


def test_probe_tells_version_and_precisions() -> None:
    """It runs whole numbers and floats on the processor."""
    found = litert.probe()

    assert found.available
    assert found.runtime == f"ai-edge-litert {version('ai-edge-litert')}"
    assert found.devices == ("cpu",)
    assert found.precisions == (Precision.FP32, Precision.INT8)


def test_logits_are_what_the_bare_interpreter_gives(int8_network: Path) -> None:
    """Nothing but the shift of the pixels and the scale of the logits is added."""
    pixels = pictures(1)
    bare = open_interpreter(int8_network, 1)
    (first,), (last,) = bare.get_input_details(), bare.get_output_details()
    bare.set_tensor(first["index"], (pixels.astype(np.int16) - 128).astype(np.int8))
    bare.invoke()
    scale, zero = last["quantization"]
    expected = (bare.get_tensor(last["index"]).astype(np.float32) - zero) * np.float32(scale)

    described = artifact(int8_network, BackendName.LITERT, precision=Precision.INT8)
    with closing(LitertBackend(described, slots=1, threads=1)) as backend:
        logits = backend.infer(pixels)

    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_opening_says_nothing_on_stderr(int8_network: Path) -> None:
    """The runtime's greeting is kept back; what others write meanwhile is not."""
    code = (
        "import sys, os; from pathlib import Path; from mnv4serve.backends import litert\n"
        "with litert._without_chatter():\n"
        "    litert.interpreter_module().Interpreter(sys.argv[1]).allocate_tensors()\n"
        "    os.write(2, b'from somebody else\\n')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(int8_network)], capture_output=True, check=True
    )

    assert done.stderr == b"from somebody else\n"


def test_a_file_compiled_for_the_edge_tpu_is_refused() -> None:
    """Its one operator exists on the chip only; the sentence says so."""
    if not COMPILED.is_file():
        pytest.skip(f"{COMPILED} is not here")

    with pytest.raises(ArtifactMismatch, match="compiled for an Edge TPU"):
        LitertBackend(
            artifact(COMPILED, BackendName.LITERT, precision=Precision.INT8), slots=1, threads=1
        )
