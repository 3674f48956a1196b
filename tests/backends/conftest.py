"""The tiny network on disk, written once."""

from pathlib import Path

import pytest

from tests.backends.tiny import write_int8, write_network


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture(scope="session")
def int8_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    return write_int8(tmp_path_factory.mktemp("tiny") / "tiny.tflite")
