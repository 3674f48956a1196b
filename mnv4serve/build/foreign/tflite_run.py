"""Runs a .tflite file of unknown origin as it is. Only in a child."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends.litert import open_interpreter
from mnv4serve.build.foreign import tflite_file
from mnv4serve.build.foreign.complaint import short, trying
from mnv4serve.build.foreign.values import Outputs
from mnv4serve.errors import ArtifactMismatch, CatalogError


class TfliteRunner:
    """A .tflite file in LiteRT, picture by picture."""

    def __init__(self, path: Path) -> None:
        contents = tflite_file.load(path)
        self.whole = path.read_bytes()
        self._path = path
        try:
            self._interpreter = open_interpreter(path, 1)
        except ArtifactMismatch as error:
            cause = short(error.__cause__ or error)
            raise CatalogError(f"{path}: LiteRT cannot load it ({cause})") from error
        self.facts = tflite_file.facts(path, contents, self._interpreter)

    def __call__(self, values: NDArray[Any]) -> Outputs:
        answers = [self._one(picture) for picture in values]
        return {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}

    def _one(self, picture: NDArray[Any]) -> Outputs:
        (first,) = self._interpreter.get_input_details()
        if tuple(first["shape"]) != (1, *picture.shape):
            self._interpreter.resize_tensor_input(first["index"], [1, *picture.shape])
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(first["index"], picture[np.newaxis])
        trying(self._path, "LiteRT cannot run it", self._interpreter.invoke)
        return {
            last["name"]: _real(self._interpreter.get_tensor(last["index"]), last["quantization"])
            for last in self._interpreter.get_output_details()
        }


def _real(values: NDArray[Any], grid: tuple[float, int]) -> NDArray[Any]:
    scale, zero = grid
    return (values.astype(np.float64) - zero) * scale if scale else values
