"""Runs an ONNX file of unknown origin as it is. Only in a child."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends.onnx import onnxruntime
from mnv4serve.build.foreign import onnx_file
from mnv4serve.build.foreign.complaint import trying
from mnv4serve.build.foreign.values import Outputs

SILENT = 4


class OnnxRunner:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        model = onnx_file.load(path)
        self.facts = onnx_file.facts(model)
        self.whole = bytes(model.SerializeToString())
        self._path = path
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = SILENT
        self._session = trying(
            path,
            "ONNX Runtime cannot load it",
            lambda: runtime.InferenceSession(
                self.whole, options, providers=["CPUExecutionProvider"]
            ),
        )

    def __call__(self, values: NDArray[Any]) -> Outputs:
        name = self.facts.inputs[0].name
        names = [port.name for port in self.facts.outputs]
        found = trying(
            self._path,
            "ONNX Runtime cannot run it",
            lambda: self._session.run(names, {name: values}),
        )
        pairs = zip(names, found, strict=True)
        return {
            name: array
            for name, array in pairs
            if isinstance(array, np.ndarray) and np.issubdtype(array.dtype, np.number)
        }
