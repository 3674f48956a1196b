"""A captured network as the safetensors file that the `cuda` backend reads."""

from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from mnv4serve.backends.cuda_network import (
    DTYPES,
    FORMAT,
    SCALE,
    SHIFT,
    Operation,
    Program,
)
from mnv4serve.build.export import label_count, mean_pixel
from mnv4serve.build.graph import INPUT, Constant, Graph, Operator
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import Precision

WHITE = 255.0


def cuda_model(
    graph: Graph, preprocessing: Preprocessing, resolution: int, precision: Precision
) -> bytes:
    """Weights in the precision they are computed in, with the operators beside them."""
    std = WHITE * np.asarray(preprocessing.std)
    tensors = {
        SCALE: torch.from_numpy(1 / std).float(),
        SHIFT: torch.from_numpy(-mean_pixel(preprocessing) / std).float(),
    }
    numbers, operations = {INPUT: 0}, []
    for number, operator in enumerate(graph, start=1):
        constants = _constants(operator, number, DTYPES[precision])
        tensors |= constants
        inputs = tuple(numbers[name] for name in operator.inputs)
        operations.append(_operation(operator, inputs, tuple(constants)))
        numbers[operator.name] = number
    program = Program(
        resolution=resolution, n_labels=label_count(graph), operations=tuple(operations)
    )
    content = program.model_dump_json(exclude_defaults=True)
    return save(tensors, {"format": FORMAT, "program": content})


def _constants(operator: Operator, number: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights, biases and factors by name; a shape is no tensor but part of the operation."""
    if operator.kind == "Reshape":
        return {}
    return {f"{number}.{at}": _tensor(value, dtype) for at, value in enumerate(operator.constants)}


def _tensor(value: Constant, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value)).to(dtype)


def _operation(
    operator: Operator, inputs: tuple[int, ...], constants: tuple[str, ...]
) -> Operation:
    form = _FORMS.get(operator.kind, _plain)(operator)
    return Operation.model_validate(
        {"kind": operator.kind, "inputs": inputs, "constants": constants, **form}
    )


def _plain(_: Operator) -> dict[str, Any]:
    return {}


def _convolution(operator: Operator) -> dict[str, Any]:
    found = operator.attributes
    pads = tuple(found["pads"])
    if pads[:2] != pads[2:]:
        raise NotImplementedError(f"{operator.name} pads one side more than the other")
    return {"stride": tuple(found["strides"]), "padding": pads[:2], "groups": found["group"]}


def _transpose(operator: Operator) -> dict[str, Any]:
    return {"order": tuple(operator.attributes["perm"])}


def _reshape(operator: Operator) -> dict[str, Any]:
    return {"shape": tuple(operator.constants[0].tolist())}


_FORMS = {"Conv": _convolution, "Transpose": _transpose, "Reshape": _reshape}
