"""Reading .tflite files: what they hold, and that lying ones are refused without harm."""

import struct
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from ai_edge_litert import schema_py_generated as schema

from mnv4serve.backends.flatbuffer import Malformed, Table
from mnv4serve.backends.litert_file import IDENTIFIER, Number, read
from tests.backends.tiny import LABELS, SIDE

SAMPLES = Path(__file__).parents[3] / "shared/data/edgetpu"


@pytest.fixture(scope="module")
def content(int8_network: Path) -> bytes:
    return int8_network.read_bytes()


def test_a_file_tells_its_ends_and_operators(content: bytes) -> None:
    """Shapes and number formats of both ends, operators by name, weights in bytes."""
    found = read(content)

    assert found.ends("inputs") == ((Number.INT8, (1, SIDE, SIDE, 3)),)
    assert found.ends("outputs") == ((Number.INT8, (1, LABELS)),)
    assert found.counts == {"CONV_2D": 1, "MEAN": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1}
    assert found.weight_bytes == 8 * 27 + 8 * LABELS + 4 * (8 + LABELS) + 4 * 2 + 4 * 2
    assert not found.compiled


def test_every_truncation_is_refused(content: bytes) -> None:
    """Wherever a download broke off, the file is no file."""
    for length in range(0, len(content), 7):
        with pytest.raises(Malformed):
            read(content[:length])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_lies_never_do_harm(data: st.DataObject, content: bytes) -> None:
    """Any four bytes changed to anything: the file is read or refused, nothing else."""
    place = data.draw(st.integers(8, len(content) - 4))
    value = data.draw(st.integers(0, 2**32 - 1))
    lying = content[:place] + struct.pack("<I", value) + content[place + 4 :]

    try:
        found = read(lying)
    except Malformed:
        return
    assert found.operations is not None


@pytest.mark.parametrize(("sparse", "n_bytes"), [(True, 8), (False, 8), (True, 80)])
def test_only_sparse_weights_may_be_shorter_than_their_shape(
    content: bytes, *, sparse: bool, n_bytes: int
) -> None:
    """They keep what is not zero; none is longer than its shape."""
    model = schema.ModelT.InitFromPackedBuf(content)
    tensor = next(t for t in model.subgraphs[0].tensors if list(t.shape) == [LABELS, 8])
    tensor.sparsity = schema.SparsityParametersT() if sparse else None
    model.buffers[tensor.buffer].data = np.zeros(n_bytes, np.uint8)
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    changed = bytes(builder.Output())

    if sparse and n_bytes < 8 * LABELS:
        assert read(changed).weight_bytes == read(content).weight_bytes - 8 * LABELS + n_bytes
        return
    with pytest.raises(Malformed, match=f"has {n_bytes} bytes"):
        read(changed)


def test_another_kind_of_file_is_refused() -> None:
    """A picture, say."""
    with pytest.raises(Malformed, match="TFL3"):
        read(b"\xff\xd8\xff\xe0" + bytes(64))


def test_a_length_beyond_the_file_is_refused() -> None:
    """A list that claims more entries than there are bytes is not begun to be read."""
    table = struct.pack("<HHH", 6, 8, 4) + bytes(2) + struct.pack("<iI", 8, 4)
    lying = struct.pack("<I", 16) + IDENTIFIER + table + struct.pack("<I", 2**31)

    with pytest.raises(Malformed, match="end of the file"):
        Table.root(lying, identifier=IDENTIFIER).numbers(0, "i")


def test_a_compiled_file_is_recognised() -> None:
    """Google's own compiler's output has one operator, which only the chip knows."""
    samples = sorted(SAMPLES.glob("*_edgetpu.tflite"))
    if not samples:
        pytest.skip(f"{SAMPLES} holds no compiled models")

    for sample in samples:
        assert read(sample.read_bytes()).compiled
