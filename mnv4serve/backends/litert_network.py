"""Somebody else's .tflite file on LiteRT: floats or whole numbers, planes or pixels, any scale.

Our own files go through `litert`, which knows what they take and saves the look at it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import LEAST_PROBABILITY, LUMINANCE, Artifact
from mnv4serve.backends.litert import interpreter_module, open_interpreter
from mnv4serve.catalog import Network, Preprocessing
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing

WHITE = 255.0
_SIGN = np.uint8(0x80)
_LEVELS = np.arange(256)

Feed = Callable[[NDArray[np.uint8], NDArray[Any]], None]
"""Writes a picture [H, W, 3] into an input that is seen as [H, W, channels]."""


class LitertNetwork:
    """One file with an interpreter for each slot; a batch is a loop."""

    def __init__(self, artifact: Artifact, *, slots: int, threads: int) -> None:
        interpreter_module()
        if not artifact.path.is_file():
            raise ArtifactMissing(f"{artifact.path} is missing: run `mnv4serve build`")
        self._shape = (artifact.resolution, artifact.resolution, 3)
        self._labels = artifact.n_labels
        self._lanes = [_Lane(artifact, threads) for _ in range(slots)]

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3]."""
        n = len(pixels)
        if pixels.shape[1:] != self._shape or pixels.dtype != np.uint8:
            wanted = f"they must be uint8 [N, {self._shape[0]}, {self._shape[0]}, 3]"
            raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}: {wanted}")
        if not (0 <= slot < len(self._lanes) and n > 0):
            raise ValueError(f"no slot {slot} or no picture in a batch of {n}; is it closed?")
        logits = np.empty((n, self._labels), np.float32)
        for picture, answer in zip(pixels, logits, strict=True):
            self._lanes[slot].run(picture, answer)
        return logits

    def close(self) -> None:
        """Free the interpreters and their packed weights."""
        self._lanes.clear()


class _Lane:
    """An interpreter with direct access to its input and output.

    Views of its memory have to be gone when it runs, so they are taken anew for each picture.
    """

    def __init__(self, artifact: Artifact, threads: int) -> None:
        network, preprocessing = artifact.network, artifact.preprocessing
        assert network is not None
        assert preprocessing is not None
        self._interpreter = open_interpreter(artifact.path, threads)
        first = _find(self._interpreter.get_input_details(), network.input, artifact)
        fit(self._interpreter, first, network, artifact.resolution)
        last = _find(self._interpreter.get_output_details(), network.output, artifact)
        self._pixels = self._interpreter.tensor(first["index"])
        self._answers = self._interpreter.tensor(last["index"])
        self._planes = network.layout == "NCHW"
        self._feed = feed_of(network, preprocessing)
        self._probable = network.gives == "probabilities"
        self._span = slice(network.label_offset, network.label_offset + artifact.n_labels)
        self._scale, self._zero = output_grid(last)
        if self._answers().size < self._span.stop:
            raise _mismatch(artifact, f"it does not give {self._span.stop} numbers")

    def run(self, picture: NDArray[np.uint8], logits: NDArray[np.float32]) -> None:
        view = self._pixels()[0]
        self._feed(picture, view.transpose(1, 2, 0) if self._planes else view)
        del view
        self._interpreter.invoke()
        np.subtract(self._answers().reshape(-1)[self._span], self._zero, out=logits)
        logits *= self._scale
        if self._probable:
            logits += LEAST_PROBABILITY
            np.log(logits, out=logits)


def fit(interpreter: Any, first: dict[str, Any], network: Network, side: int) -> None:  # noqa: ANN401
    """Give an input whose sides or batch are open the shape of one picture."""
    channels = 1 if network.colours == "grey" else 3
    plane = (channels, side, side) if network.layout == "NCHW" else (side, side, channels)
    if tuple(first["shape"]) != (1, *plane):
        interpreter.resize_tensor_input(first["index"], [1, *plane])
        interpreter.allocate_tensors()


def output_grid(last: dict[str, Any]) -> tuple[np.float32, np.float32]:
    """Scale and zero point of an output, 1 and 0 of one that holds floats."""
    scale, zero = last["quantization"]
    return (np.float32(scale), np.float32(zero)) if scale else (np.float32(1), np.float32(0))


def feed_of(network: Network, preprocessing: Preprocessing) -> Feed:
    """How pictures are written into an input, in as few passes as it takes."""
    mean = np.array(preprocessing.mean)
    factor = 1 / (WHITE * np.array(preprocessing.std))
    if network.colours == "grey":
        return _grey(network, float(factor[0]), float(-mean[0] / preprocessing.std[0]))
    order = [2, 1, 0] if network.colours == "BGR" else [0, 1, 2]
    factor, shift = factor[order], (-mean / preprocessing.std)[order]
    picked: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = (
        (lambda picture: picture[..., ::-1])
        if network.colours == "BGR"
        else (lambda picture: picture)
    )
    if network.number.startswith("float"):
        factor, shift = factor.astype(np.float32), shift.astype(np.float32)

        def floats(picture: NDArray[np.uint8], out: NDArray[Any]) -> None:
            np.multiply(picked(picture), factor, out=out)
            out += shift

        return floats
    table = _whole(_LEVELS[:, np.newaxis] * factor + shift, network)
    return _levels(table, picked)


def _levels(table: NDArray[Any], picked: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Feed:
    """By a table [256, 3]; those that only move the sign bit, the usual case, need none."""
    same = bool((table.view(np.uint8) == _LEVELS[:, np.newaxis]).all())
    signed = bool((table.view(np.uint8) == (_LEVELS ^ 0x80)[:, np.newaxis]).all())

    def whole(picture: NDArray[np.uint8], out: NDArray[Any]) -> None:
        chosen = picked(picture)
        if same:
            out[...] = chosen
        elif signed:
            np.bitwise_xor(chosen, _SIGN, out=out.view(np.uint8))
        else:
            for channel in range(table.shape[1]):
                out[..., channel] = table[chosen[..., channel], channel]

    return whole


def _grey(network: Network, factor: float, shift: float) -> Feed:
    weights = np.array(LUMINANCE, np.float32)

    def grey(picture: NDArray[np.uint8], out: NDArray[Any]) -> None:
        values = picture @ weights * np.float32(factor) + np.float32(shift)
        whole = not network.number.startswith("float")
        out[..., 0] = _whole(values, network) if whole else values

    return grey


def _whole(values: NDArray[Any], network: Network) -> NDArray[Any]:
    """Real values on the input's grid."""
    limits = np.iinfo(network.number)
    levels = np.rint(values / network.scale) + network.zero_point
    return levels.clip(limits.min, limits.max).astype(network.number)


def _find(details: list[dict[str, Any]], name: str, artifact: Artifact) -> dict[str, Any]:
    for found in details:
        if found["name"] == name:
            return found
    raise _mismatch(artifact, f"it has no tensor {name}")


def _mismatch(artifact: Artifact, what: str) -> ArtifactMismatch:
    return ArtifactMismatch(
        f"{artifact.path} is no such artifact, {what}: run `mnv4serve build --force`"
    )
