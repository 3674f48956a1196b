"""LiteRT on the CPU: an int8 file run by XNNPACK, the same file that an Edge TPU is compiled from.

Every slot has an interpreter of its own, which runs in the thread that calls it. The files take
single pictures, so a batch is a loop.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Artifact, Availability, litert_file
from mnv4serve.backends.flatbuffer import Malformed
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing, BackendUnavailable

DEVICE = "cpu"
_SIGN = np.uint8(0x80)
"""What turns a uint8 pixel into the int8 that is 128 less."""
_CHATTER = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
_STDERR = 2


@cache
def interpreter_module() -> ModuleType:
    """The runtime; raises BackendUnavailable where it is not installed."""
    try:
        from ai_edge_litert import interpreter  # noqa: PLC0415
    except ImportError as error:
        reason = f"LiteRT cannot be imported ({error}): pip install mnv4serve[litert]"
        raise BackendUnavailable(BackendName.LITERT, reason) from error
    return interpreter  # type: ignore[no-any-return]


def probe() -> Availability:
    """The runtime's version; it computes alike on every processor.

    Floats are for networks of other origin: our own are built as int8.
    """
    try:
        interpreter_module()
    except BackendUnavailable as error:
        return Availability(
            BackendName.LITERT,
            available=False,
            runtime="",
            devices=(),
            precisions=(),
            reason=error.reason,
        )
    return Availability(
        BackendName.LITERT,
        available=True,
        runtime=f"ai-edge-litert {version('ai-edge-litert')}",
        devices=(DEVICE,),
        precisions=(Precision.FP32, Precision.INT8),
    )


class LitertBackend:
    """One int8 file with an interpreter for each slot."""

    def __init__(self, artifact: Artifact, *, slots: int, threads: int) -> None:
        interpreter_module()
        check(artifact)
        self._shape = (artifact.resolution, artifact.resolution, 3)
        self._labels = artifact.n_labels
        self._lanes = [Lane(open_interpreter(artifact.path, threads)) for _ in range(slots)]

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3]."""
        if pixels.shape[1:] != self._shape or pixels.dtype != np.uint8:
            wanted = f"they must be uint8 [N, {self._shape[0]}, {self._shape[0]}, 3]"
            raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}: {wanted}")
        n = len(pixels)
        if not (0 <= slot < len(self._lanes) and n > 0):
            raise ValueError(f"no slot {slot} or no picture in a batch of {n}; is it closed?")
        logits = np.empty((n, self._labels), np.float32)
        for picture, answer in zip(pixels, logits, strict=True):
            self._lanes[slot].run(picture, answer)
        return logits

    def close(self) -> None:
        """Free the interpreters and their packed weights."""
        self._lanes.clear()


class Lane:
    """An int8 interpreter with direct access to its input and output.

    Views of its memory have to be gone when it runs, so they are taken anew for each picture.
    """

    __slots__ = ("_interpreter", "_logits", "_pixels", "_scale", "_zero")

    def __init__(self, interpreter: Any) -> None:  # noqa: ANN401 - the runtime ships no types
        (first,), (last,) = interpreter.get_input_details(), interpreter.get_output_details()
        self._interpreter = interpreter
        self._pixels: Callable[[], NDArray[np.int8]] = interpreter.tensor(first["index"])
        self._logits: Callable[[], NDArray[np.int8]] = interpreter.tensor(last["index"])
        scale, zero = last["quantization"]
        self._scale, self._zero = np.float32(scale), np.float32(zero)

    def run(self, picture: NDArray[np.uint8], logits: NDArray[np.float32]) -> None:
        np.bitwise_xor(picture, _SIGN, out=self._pixels()[0].view(np.uint8))
        self._interpreter.invoke()
        np.subtract(self._logits()[0], self._zero, out=logits)
        logits *= self._scale


def check(artifact: Artifact) -> None:
    """Read the file without running it; raises where it is not what the artifact says."""
    try:
        contents = litert_file.read(artifact.path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{artifact.path} is missing: run `mnv4serve build`") from error
    except Malformed as error:
        raise _mismatch(artifact.path, str(error)) from error
    if contents.compiled:
        raise _mismatch(artifact.path, "it is compiled for an Edge TPU")
    check_ends(contents, artifact)


def check_ends(contents: litert_file.Contents, artifact: Artifact) -> None:
    """Raise ArtifactMismatch where a file takes or gives something else than its artifact."""
    side, labels = artifact.resolution, artifact.n_labels
    if contents.ends("inputs") != ((litert_file.Number.INT8, (1, side, side, 3)),):
        raise _mismatch(artifact.path, f"it does not take int8 pictures of {side} pixels a side")
    if contents.ends("outputs") != ((litert_file.Number.INT8, (1, labels)),):
        raise _mismatch(artifact.path, f"it does not give {labels} int8 logits")


def open_interpreter(
    path: Path,
    threads: int,
    *,
    runtime: ModuleType | None = None,
    **options: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """A loaded file, ready to run on `threads` threads; LiteRT runs it where `runtime` is None."""
    runtime = runtime or interpreter_module()
    try:
        with _without_chatter():
            interpreter = runtime.Interpreter(str(path), num_threads=threads, **options)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise _mismatch(path, "LiteRT cannot load it") from error
    return interpreter


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep the runtime's greeting off stderr, which no setting of it does; pass on all else."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        original = os.dup(_STDERR)
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
            caught.seek(0)
            lines = caught.read().splitlines(keepends=True)
            os.write(_STDERR, b"".join(line for line in lines if line.strip() != _CHATTER))


def _mismatch(path: Path, what: str) -> ArtifactMismatch:
    return ArtifactMismatch(f"{path} is no such artifact, {what}: run `mnv4serve build --force`")
