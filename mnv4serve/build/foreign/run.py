"""Runs a file of unknown origin as it is, with its preparation spelled out in NumPy.

Slow and plain on purpose: it is what the served artifacts are compared with. Only in a child.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import LEAST_PROBABILITY, LUMINANCE
from mnv4serve.build.foreign.values import WHITE, Facts, Outputs
from mnv4serve.catalog import Network, Preprocessing
from mnv4serve.errors import CatalogError

Pixels = NDArray[np.uint8]


class Runner(Protocol):
    """An opened file."""

    facts: Facts
    whole: bytes
    """Its content with everything that it kept in other files."""

    def __call__(self, values: NDArray[Any]) -> Outputs:
        """All outputs by name, as floats; raises CatalogError where it cannot be run."""
        ...


def open_file(path: Path) -> Runner:
    """Look at a file and load it; raises CatalogError, or kills the process."""
    if path.suffix == ".onnx":
        from mnv4serve.build.foreign.onnx_run import OnnxRunner  # noqa: PLC0415

        return OnnxRunner(path)
    if path.suffix == ".tflite":
        from mnv4serve.build.foreign.tflite_run import TfliteRunner  # noqa: PLC0415

        return TfliteRunner(path)
    raise CatalogError(
        f"{path} is neither .onnx nor .tflite: export the network to one of them first"
    )


def prepared(pixels: Pixels, network: Network, preprocessing: Preprocessing) -> NDArray[Any]:
    """Pictures [N, H, W, 3] as the network takes them."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    values = (pixels / WHITE - mean) / std
    if network.colours == "grey":
        values = values @ np.array(LUMINANCE)[:, np.newaxis]
    elif network.colours == "BGR":
        values = values[..., ::-1]
    if network.layout == "NCHW":
        values = values.transpose(0, 3, 1, 2)
    values = np.ascontiguousarray(values)
    if network.number.startswith("float"):
        return values.astype(network.number)
    limits = np.iinfo(network.number)
    levels = np.rint(values / network.scale) + network.zero_point
    return levels.clip(limits.min, limits.max).astype(network.number)


def logits(
    runner: Runner,
    network: Network,
    preprocessing: Preprocessing,
    pixels: Pixels,
    *,
    n_labels: int,
) -> NDArray[np.float32]:
    """The network's answers [N, labels] in batches that it takes."""
    size = network.batch or len(pixels)
    missing = -len(pixels) % size
    filled = np.concatenate([pixels, np.repeat(pixels[:1], missing, axis=0)])
    values = prepared(filled, network, preprocessing)
    parts = [
        runner(values[start : start + size])[network.output].reshape(size, -1)
        for start in range(0, len(values), size)
    ]
    answers = np.concatenate(parts)[: len(pixels)].astype(np.float64)
    answers = answers[:, network.label_offset : network.label_offset + n_labels]
    if network.gives == "probabilities":
        answers = np.log(answers + LEAST_PROBABILITY)
    return answers.astype(np.float32)
