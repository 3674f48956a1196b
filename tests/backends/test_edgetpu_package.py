"""Reading compiled Edge TPU models, on samples that Google's compiler made."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv4serve.backends.edgetpu_package import Package, Role
from mnv4serve.backends.flatbuffer import Malformed
from mnv4serve.backends.litert_file import read

SAMPLES = Path(__file__).parents[3] / "shared/data/edgetpu"
ALONE, LARGER = "mobilenet_v1_0.25_128_quant", "mobilenet_v1_0.5_160_quant"
TOGETHER = "_cocompiled_with_3quant"


def sample(name: str) -> bytes:
    path = SAMPLES / f"{name}_edgetpu.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path.read_bytes()


def package(name: str) -> Package:
    return Package.of(read(sample(name)))


@pytest.mark.parametrize(
    ("name", "cached", "streamed", "instructions", "pixels"),
    [
        (ALONE, 566_912, 0, 170_032, 49_152),
        (LARGER, 1_473_280, 0, 205_936, 76_800),
        (ALONE + TOGETHER, 315_840, 251_072, 182_928, 49_152),
    ],
)
def test_sizes_are_those_of_the_samples(
    name: str, cached: int, streamed: int, instructions: int, pixels: int
) -> None:
    """What stays on the chip, what is streamed, and what each picture costs on the link."""
    found = package(name)

    assert found.cached_bytes == cached
    assert found.streamed_bytes == streamed
    assert found.instruction_bytes == instructions
    assert found.input_bytes == pixels
    assert {executable.batch_size for executable in found.executables} == {1}


def test_only_models_compiled_together_share_a_token() -> None:
    """Sharing a token means that switching between them reloads nothing."""
    assert package(ALONE + TOGETHER).token == package(LARGER + TOGETHER).token
    assert len({package(name).token for name in (ALONE, LARGER, ALONE + TOGETHER)}) == 3


def test_one_executable_loads_and_one_runs() -> None:
    """Both kinds are there, and the compiler names itself."""
    found = package(ALONE)

    roles = [executable.role for executable in found.executables]
    assert sorted(roles) == [Role.PARAMETER_CACHING, Role.EXECUTION_ONLY]
    assert found.compiler
    assert 0 < found.min_runtime_version <= 14


def test_a_file_that_is_not_compiled_is_refused(int8_network: Path) -> None:
    """It has no package to read."""
    with pytest.raises(Malformed, match="not compiled"):
        Package.of(read(int8_network.read_bytes()))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_lies_never_do_harm(data: st.DataObject) -> None:
    """Any bytes of the package's tables changed to anything: read or refused, nothing else."""
    content = bytearray(sample(ALONE))
    start = content.find(b"DWN1") - 8
    for _ in range(3):
        place = data.draw(st.integers(start, start + 4096))
        content[place] = data.draw(st.integers(0, 255))

    try:
        found = Package.of(read(bytes(content)))
    except Malformed:
        return
    assert found.cached_bytes <= len(content)
