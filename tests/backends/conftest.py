"""The tiny network on disk, written once."""

from pathlib import Path

import pytest

from tests.backends.tiny import write_network


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("tiny") / "tiny.onnx")
