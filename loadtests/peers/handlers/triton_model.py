"""Triton's Python backend: what runs in each model instance."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from loadtests.peers.work import open_work


class TritonPythonModel:
    """The class that the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        del args
        self._work = open_work()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:  # noqa: ANN401  # Triton's types have no stubs
        image = triton.get_input_tensor_by_name(request, "IMAGE").as_numpy().tobytes()
        reply = np.frombuffer(json.dumps(self._work(image)).encode(), np.uint8)
        return triton.InferenceResponse([triton.Tensor("REPLY", reply)])
