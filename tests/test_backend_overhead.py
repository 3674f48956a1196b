"""The bare runtimes that backends are compared with have to do the same work."""

from pathlib import Path

import numpy as np
import pytest

from loadtests import backend_overhead
from loadtests.backend_overhead import bare, compare
from mnv4serve.backends import open_backend
from mnv4serve.domain import BackendName
from tests.backends.tiny import artifact, pictures, write_network

pytest.importorskip("onnxruntime", reason="one of the two runtimes")


@pytest.mark.parametrize("backend", backend_overhead.BACKENDS)
def test_bare_and_backend_answer_alike(tmp_path: Path, backend: BackendName) -> None:
    """The same file and picture, the same logits."""
    tiny = artifact(write_network(tmp_path / "tiny.onnx"), backend)
    pixels = pictures(1)

    plain = bare(tiny)(pixels)

    ours = open_backend(tiny, device="cpu", slots=1, threads=1).infer(pixels)
    np.testing.assert_allclose(plain, ours, rtol=1e-5, atol=1e-5)


def test_a_comparison_gives_both_times_and_their_ratio(tmp_path: Path) -> None:
    """With one round the ratio is that of the two times."""
    tiny = artifact(write_network(tmp_path / "tiny.onnx"), BackendName.CPU)

    theirs_ms, ours_ms, ratio = compare(tiny, rounds=1)

    assert ratio == pytest.approx(ours_ms / theirs_ms)


def test_help_shows_an_example_that_can_be_copied() -> None:
    """The command of the module's own text is read back."""
    parser = backend_overhead.parser()

    example = next(line for line in parser.format_help().splitlines() if "    python -m " in line)

    assert parser.parse_args(example.split()[3:]).variant == "conv_small@224"
