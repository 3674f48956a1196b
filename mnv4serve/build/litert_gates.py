"""What a .tflite file has to keep so that the whole of it maps onto an Edge TPU.

Google's compiler is the judge; these rules are those it is known by, and hold where it is absent.
"""

from collections.abc import Iterator, Mapping

from mnv4serve.backends.flatbuffer import Malformed
from mnv4serve.backends.litert_file import FLOATS, Contents, Number, read
from mnv4serve.errors import ArtifactMismatch

NEWEST: Mapping[str, int] = {
    "ADD": 2,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "FULLY_CONNECTED": 9,
    "MEAN": 2,
    "PAD": 2,
    "RESHAPE": 1,
    "SOFTMAX": 2,
}
"""Operators of classifiers that the compiler maps, each with the newest version that it reads."""
PARAMETER_MEMORY_BYTES = 7_000_000
"""Of the chip's 8 MB what its compiler leaves for weights."""


def streamed_bytes(contents: Contents) -> int:
    """Weights that do not fit on the chip and are sent anew for every picture."""
    return max(0, contents.weight_bytes - PARAMETER_MEMORY_BYTES)


def faults(contents: Contents) -> Iterator[str]:
    """Everything that would keep a file, or a part of it, off the chip."""
    for operation in contents.operations:
        newest = NEWEST.get(operation.name)
        if newest is None:
            yield f"{operation.name} is no operator of the Edge TPU"
        elif operation.version > newest:
            yield f"{operation.name} has version {operation.version}, readable is {newest}"
    yield from _tensor_faults(contents)
    yield from _scale_faults(contents)
    if contents.outside:
        yield f"{contents.outside} constants lie outside the flatbuffer"


def require_mappable(content: bytes, name: str) -> Contents:
    """What a file holds; raises ArtifactMismatch naming the first fault."""
    try:
        contents = read(content)
    except Malformed as error:
        raise ArtifactMismatch(f"{name} is no readable .tflite file: {error}") from error
    fault = next(faults(contents), None)
    if fault:
        raise ArtifactMismatch(f"{name} does not map onto an Edge TPU: {fault}")
    return contents


def _tensor_faults(contents: Contents) -> Iterator[str]:
    for tensor in contents.tensors:
        if tensor.number in FLOATS:
            yield f"tensor {tensor.name} holds floating point numbers"
        if not tensor.static:
            yield f"tensor {tensor.name} has no fixed shape"
    for number in (*contents.inputs, *contents.outputs):
        if contents.tensors[number].number != Number.INT8:
            yield f"{contents.tensors[number].name} goes in or out as something else than int8"


def _scale_faults(contents: Contents) -> Iterator[str]:
    """Kernels of that age know one scale for the weights of a matrix product."""
    for operation in contents.operations:
        if operation.name == "FULLY_CONNECTED":
            weights = contents.tensors[operation.inputs[1]]
            if weights.n_scales > 1:
                yield f"{weights.name} has a scale per channel"
