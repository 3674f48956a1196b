"""A network in a safetensors file: tensors, and the operators that use them as data.

Nothing in the file is executed: PyTorch's own exported programs and scripted modules run pickles
or code as they are loaded, this format names a dozen operators that are looked up here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, fx, nn
from torch.nn import functional

from mnv4serve.backends import Artifact
from mnv4serve.domain import Precision
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing

FORMAT = "mnv4serve-operators-1"
SCALE, SHIFT = "pixel.scale", "pixel.shift"
"""What turns a pixel value into the network's input, per channel."""
DTYPES = {
    Precision.FP32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}

Kind = Literal[
    "Add",
    "Conv",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "Mul",
    "Relu",
    "Reshape",
    "Softmax",
    "Transpose",
]
Whole = Annotated[int, Field(ge=0, le=1 << 20)]
Pair = tuple[Whole, Whole]


class Operation(BaseModel):
    """One operator: the values and tensors it reads, and what it does with them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Kind
    inputs: tuple[Whole, ...]
    """Earlier values by number: 0 is the network's input, N what the Nth operation gave."""
    constants: tuple[str, ...] = ()
    """Tensors of the file, after the inputs."""
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    order: tuple[Whole, ...] = ()
    """Of the axes, to transpose to."""
    shape: tuple[Whole, ...] = ()
    """To reshape to, 0 for the batch."""


class Program(BaseModel):
    """A whole network."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    resolution: Whole
    n_labels: Whole
    operations: Annotated[tuple[Operation, ...], Field(min_length=1, max_length=10_000)]


def read(artifact: Artifact) -> fx.GraphModule:
    """The network of an artifact, on the processor: uint8 [N, H, W, 3] -> fp32 [N, labels].

    Raises ArtifactMissing or ArtifactMismatch where the file is not what the artifact says.
    """
    path = artifact.path
    if not path.is_file():
        raise ArtifactMissing(f"{path} is missing: run `mnv4serve build`")
    try:
        with safe_open(path, "pt") as file:
            program = _program(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValidationError, ValueError) as error:
        raise mismatch(path, "it cannot be read") from error
    if program.resolution != artifact.resolution:
        raise mismatch(path, f"it does not take pictures of {artifact.resolution} pixels a side")
    if program.n_labels != artifact.n_labels:
        raise mismatch(path, f"it does not give {artifact.n_labels} logits")
    try:
        return assembled(program, tensors, DTYPES[artifact.precision])
    except (KeyError, IndexError, ValueError) as error:
        raise mismatch(path, f"its operators do not fit ({error})") from error


def mismatch(path: Path, what: str) -> ArtifactMismatch:
    """The refusal of a file, with the command that makes it anew."""
    return ArtifactMismatch(f"{path} is no such artifact, {what}: run `mnv4serve build --force`")


def assembled(
    program: Program, tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> fx.GraphModule:
    """A program as a module of its own, so that what is compiled of it belongs to it alone.

    Raises KeyError, IndexError or ValueError where its parts do not fit together.
    """
    builder = _Builder(tensors, dtype)
    for operation in program.operations:
        builder.append(operation)
    return builder.finish()


def _program(metadata: Mapping[str, str]) -> Program:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"not of the format {FORMAT}")
    return Program.model_validate_json(metadata.get("program", ""))


class _Builder:
    """Adds operators one after the other to a module that holds their tensors."""

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self._tensors = tensors
        self._dtype = dtype
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._attributes: dict[str, fx.Node] = {}
        self._values = [self._normalised(self._graph.placeholder("pixels"))]

    def append(self, operation: Operation) -> None:
        inputs = [self._values[number] for number in operation.inputs]
        constants = [self._constant(name, self._dtype) for name in operation.constants]
        if operation.kind == "Conv":
            self._check_convolution(operation)
        form = _FORMS[operation.kind]
        self._values.append(form(self._graph, [*inputs, *constants], operation))

    def finish(self) -> fx.GraphModule:
        self._graph.output(self._graph.call_method("float", (self._values[-1],)))
        return fx.GraphModule(self._root, self._graph).eval()

    def _normalised(self, pixels: fx.Node) -> fx.Node:
        """Channels stay last in memory: the planar view is free, and convolutions like it."""
        graph, single = self._graph, torch.float32
        real = graph.call_method("to", (pixels, single))
        scaled = graph.call_function(torch.mul, (real, self._constant(SCALE, single)))
        normal = graph.call_function(torch.add, (scaled, self._constant(SHIFT, single)))
        narrow = graph.call_method("to", (normal, self._dtype))
        return graph.call_method("permute", (narrow, 0, 3, 1, 2))

    def _constant(self, name: str, dtype: torch.dtype) -> fx.Node:
        """A tensor by a name of ours: the file's own names become no code."""
        if name not in self._attributes:
            tensor = self._tensors[name].to(dtype)
            if tensor.ndim == 4:  # noqa: PLR2004 - a convolution's weights
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            attribute = f"tensor_{len(self._attributes)}"
            self._root.register_buffer(attribute, tensor)
            self._attributes[name] = self._graph.get_attr(attribute)
        return self._attributes[name]

    def _check_convolution(self, operation: Operation) -> None:
        weights, bias = (self._tensors[name] for name in operation.constants)
        if bias.shape != weights.shape[:1] or len(weights) % operation.groups:
            raise ValueError(f"a convolution with {list(weights.shape)} and {list(bias.shape)}")


_Form = Callable[[fx.Graph, Sequence[fx.Node], Operation], fx.Node]


def _convolution(graph: fx.Graph, values: Sequence[fx.Node], operation: Operation) -> fx.Node:
    pixels, weights, bias = values
    dilation = (1, 1)
    form = (operation.stride, operation.padding, dilation, operation.groups)
    return graph.call_function(functional.conv2d, (pixels, weights, bias, *form))


def _linear(graph: fx.Graph, values: Sequence[fx.Node], _: Operation) -> fx.Node:
    pixels, weights, bias = values
    return graph.call_function(functional.linear, (pixels, weights, bias))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> _Form:
    def form(graph: fx.Graph, values: Sequence[fx.Node], _: Operation) -> fx.Node:
        first, second = values
        return graph.call_function(function, (first, second))

    return form


def _unary(function: Callable[[Tensor], Tensor]) -> _Form:
    def form(graph: fx.Graph, values: Sequence[fx.Node], _: Operation) -> fx.Node:
        (value,) = values
        return graph.call_function(function, (value,))

    return form


def _pool(graph: fx.Graph, values: Sequence[fx.Node], _: Operation) -> fx.Node:
    (value,) = values
    return graph.call_function(torch.mean, (value, (2, 3)), {"keepdim": True})


def _softmax(graph: fx.Graph, values: Sequence[fx.Node], _: Operation) -> fx.Node:
    (value,) = values
    return graph.call_function(functional.softmax, (value,), {"dim": -1})


def _transpose(graph: fx.Graph, values: Sequence[fx.Node], operation: Operation) -> fx.Node:
    (value,) = values
    return graph.call_method("permute", (value, *operation.order))


def _reshape(graph: fx.Graph, values: Sequence[fx.Node], operation: Operation) -> fx.Node:
    """The batch is what is left over, so that one program serves all sizes."""
    (value,) = values
    batch, *rest = operation.shape
    if batch or not all(rest) or math.prod(rest) < 1:
        raise ValueError(f"reshaping to {list(operation.shape)}")
    return graph.call_method("reshape", (value, -1, *rest))


_FORMS: Mapping[str, _Form] = {
    "Add": _binary(torch.add),
    "Conv": _convolution,
    "Gelu": _unary(functional.gelu),
    "Gemm": _linear,
    "GlobalAveragePool": _pool,
    "MatMul": _binary(torch.matmul),
    "Mul": _binary(torch.mul),
    "Relu": _unary(functional.relu),
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Transpose": _transpose,
}
