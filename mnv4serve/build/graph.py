"""The reference network as a short list of ONNX operators with batch norm folded into weights.

Tracing names every tensor after the module that computes it, so names are the same on every
machine; quantisation ranges are keyed by them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from typing_extensions import override

from mnv4serve.arch.blocks import LayerScale
from mnv4serve.arch.model import MobileNetV4, check_resolution

INPUT = "normalised"
OUTPUT = "logits"

Constant = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Operator:
    """One ONNX operator with one output, which carries its name."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    constants: tuple[Constant, ...] = ()
    """Weights, biases or shapes, in the operator's order after its inputs."""
    attributes: Mapping[str, Any] = field(default_factory=dict)


Graph = tuple[Operator, ...]


def capture(model: MobileNetV4, resolution: int) -> Graph:
    """The operators of a network in evaluation mode, from `INPUT` (NCHW) to `OUTPUT`."""
    traced = _Tracer(autowrap_functions=(check_resolution,)).trace(model.eval())
    traced.eliminate_dead_code(is_impure_node=lambda node: node.op in {"placeholder", "output"})
    module = fx.GraphModule(model, traced)
    _Shapes(module).run(torch.zeros(1, 3, resolution, resolution))
    operators = _Operators(model)
    for node in traced.nodes:
        operators.append(node)
    return operators.finish()


class _Tracer(fx.Tracer):
    """Keeps layer scale as one node, so that it folds into the convolution before it."""

    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LayerScale) or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs the trace once to note the shape of every tensor."""

    @override
    def run_node(self, n: fx.Node) -> Any:
        with torch.no_grad():
            result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = tuple(result.shape)
        return result


class _Operators:
    """Collects operators in order, folding per-channel factors into the convolution before."""

    def __init__(self, model: MobileNetV4) -> None:
        self._modules = dict(model.named_modules())
        self._operators: dict[str, Operator] = {}
        self._names: dict[fx.Node, str] = {}
        self._output = ""

    def append(self, node: fx.Node) -> None:
        match node.op:
            case "placeholder":
                self._names[node] = INPUT
            case "output":
                self._output = self._names[_tensor(node)]
            case "call_module":
                self._append_module(node, self._modules[str(node.target)])
            case _:
                self._append_function(node)

    def finish(self) -> Graph:
        last = self._operators.pop(self._output)
        return (*self._operators.values(), replace(last, name=OUTPUT))

    def _append_module(self, node: fx.Node, module: nn.Module) -> None:
        match module:
            case nn.Identity():
                self._names[node] = self._names[_tensor(node)]
            case nn.BatchNorm2d():
                self._scale(node, *_batch_norm_factors(module))
            case LayerScale():
                factor = _numbers(module.gamma)
                self._scale(node, factor, np.zeros_like(factor))
            case nn.Conv2d():
                self._add(node, "Conv", (_weights(module), _bias(module)), _convolution(module))
            case nn.Linear():
                attributes = {"transB": 1}
                self._add(node, "Gemm", (_weights(module), _bias(module)), attributes)
            case nn.ReLU():
                self._add(node, "Relu")
            case nn.GELU():
                self._add(node, "Gelu")
            case _:
                raise NotImplementedError(f"{node.target}: {module} has no exported form")

    def _append_function(self, node: fx.Node) -> None:
        name = _function(node)
        if name in {"getattr", "getitem"}:
            return
        if name not in _FUNCTIONS:
            raise NotImplementedError(f"the function {name} has no exported form")
        kind, constants, attributes = _FUNCTIONS[name](node)
        self._add(node, kind, constants, attributes)

    def _scale(self, node: fx.Node, factor: Constant, shift: Constant) -> None:
        """Multiply and shift per channel, within the convolution before where that has one user."""
        source = _tensor(node)
        producer = self._operators.get(self._names[source])
        if producer is None or producer.kind != "Conv" or len(source.users) > 1:
            name, wide = self._name(node), (1, -1, 1, 1)
            self._put(
                Operator("Mul", name + ".scaled", self._inputs(node), (factor.reshape(wide),))
            )
            self._put(Operator("Add", name, (name + ".scaled",), (shift.reshape(wide),)))
            self._names[node] = name
            return
        weights, bias = producer.constants
        folded = (weights * factor.reshape(-1, 1, 1, 1), bias * factor + shift)
        self._put(replace(producer, constants=folded))
        self._names[node] = producer.name

    def _add(
        self,
        node: fx.Node,
        kind: str,
        constants: tuple[Constant, ...] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        name = self._name(node)
        self._put(Operator(kind, name, self._inputs(node), constants, attributes or {}))
        self._names[node] = name

    def _name(self, node: fx.Node) -> str:
        """The module's path, or the owner's path and the function; counted where used again."""
        if node.op == "call_module":
            name = str(node.target)
        else:
            owners = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
            name = ".".join([*owners[-1:], _function(node)])
        count = sum(operator.split("#")[0] == name for operator in self._operators)
        return f"{name}#{count}" if count else name

    def _put(self, operator: Operator) -> None:
        self._operators[operator.name] = operator

    def _inputs(self, node: fx.Node) -> tuple[str, ...]:
        sources = (arg for arg in node.args if isinstance(arg, fx.Node) and "shape" in arg.meta)
        return tuple(self._names[source] for source in sources)


def _tensor(node: fx.Node) -> fx.Node:
    return node.all_input_nodes[0]


def _function(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else node.target.__name__


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()


def _weights(module: nn.Conv2d | nn.Linear) -> NDArray[np.float64]:
    return _numbers(module.weight)


def _bias(module: nn.Conv2d | nn.Linear) -> NDArray[np.float64]:
    return np.zeros(len(module.weight)) if module.bias is None else _numbers(module.bias)


def _batch_norm_factors(norm: nn.BatchNorm2d) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = _numbers(norm.weight) / np.sqrt(_numbers(norm.running_var) + norm.eps)
    return factor, _numbers(norm.bias) - _numbers(norm.running_mean) * factor


def _convolution(module: nn.Conv2d) -> dict[str, Any]:
    assert isinstance(module.padding, tuple)
    return {
        "kernel_shape": module.kernel_size,
        "strides": module.stride,
        "pads": module.padding * 2,
        "group": module.groups,
    }


_Form = tuple[str, tuple[Constant, ...], Mapping[str, Any]]


def _reshape(node: fx.Node) -> _Form:
    """To the traced shape; 0 keeps the batch, whatever it is."""
    shape = (0, *node.meta["shape"][1:])
    return "Reshape", (np.array(shape, np.int64),), {}


def _transpose(node: fx.Node) -> _Form:
    order = list(range(len(node.meta["shape"])))
    first, second = (int(str(axis)) for axis in node.args[1:])
    order[first], order[second] = order[second], order[first]
    return "Transpose", (), {"perm": order}


def _multiply(node: fx.Node) -> _Form:
    factor = node.args[1]
    assert isinstance(factor, float)
    return "Mul", (np.array(factor),), {}


def _pool(node: fx.Node) -> _Form:
    if node.args[1] != 1:
        raise NotImplementedError("only pooling to one pixel has an exported form")
    return "GlobalAveragePool", (), {}


_FUNCTIONS: Mapping[str, Callable[[fx.Node], _Form]] = {
    "add": lambda _: ("Add", (), {}),
    "matmul": lambda _: ("MatMul", (), {}),
    "softmax": lambda _: ("Softmax", (), {"axis": -1}),
    "adaptive_avg_pool2d": _pool,
    "flatten": _reshape,
    "unflatten": _reshape,
    "transpose": _transpose,
    "mul": _multiply,
}
