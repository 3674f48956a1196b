"""A proposal of how to serve a file, from what it says and from running it. Only in a child."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.build.foreign import guess
from mnv4serve.build.foreign.run import Runner, prepared
from mnv4serve.build.foreign.values import Facts, Outputs, Proposal, Way, Wishes
from mnv4serve.catalog import Network
from mnv4serve.domain import Precision
from mnv4serve.errors import CatalogError

ENDS_IN_PROBABILITIES = frozenset({"Softmax", "Sigmoid"})
ENDS_IN_LOGITS = frozenset({"LogSoftmax"})
PAIR = 2
SUM_MARGIN = 0.05
"""By which a sum of rounded probabilities may miss one."""
ALIKE = 1e-2
"""Relative difference up to which a picture's answer does not depend on the others' of a batch."""

Sides = tuple[int, ...]


def propose(runner: Runner, wishes: Wishes, *, n_labels: int) -> Proposal:
    """Raises CatalogError where the network does not fit pictures or labels."""
    facts, reasons = runner.facts, list[str]()
    port = guess.picture_input(facts)
    layout = guess.layout_of(port, facts, wishes, reasons.append)
    side = guess.resolution_of(port, layout, wishes, reasons.append)
    colours = guess.colours_of(port, layout, wishes)
    ways = guess.ways(facts, port, side, colours, wishes, reasons.append)
    first = Network.model_validate(
        {
            "input": port.name,
            "layout": layout,
            "colours": ways[0].colours,
            "number": port.number,
            "scale": port.scale or 1.0,
            "zero_point": port.zero_point,
            "output": "",
            "gives": "logits",
            "batch": 1 if facts.kind == "tflite" else port.shape[0],
            "precision": Precision.INT8 if facts.quantised else Precision.FP32,
        }
    )
    network = _tried(runner, first, ways[0], side, reasons)
    outputs = _run(runner, network, ways[0], side)
    network = _with_output(network, facts, outputs, wishes, n_labels, reasons)
    return Proposal(
        network=network,
        resolution=side,
        way=ways[0],
        rivals=tuple(ways[1:]),
        reasons=tuple(reasons),
        producer=facts.producer,
    )


def _tried(runner: Runner, network: Network, way: Way, side: int, reasons: list[str]) -> Network:
    """The network with the batch size that it really takes."""
    if network.batch is not None:
        return network
    single = network.model_copy(update={"batch": 1})
    alone = _run(runner, single, way, side)
    try:
        both = _run(runner, network.model_copy(update={"batch": 2}), way, side)
    except CatalogError:
        reasons.append("one picture at a time: it does not run on two, whatever it says")
        return single
    if all(_same(alone[name][:1], both[name][:1]) for name in alone):
        return network
    reasons.append("one picture at a time: in a batch its answers differ")
    return single


def _run(runner: Runner, network: Network, way: Way, side: int) -> Outputs:
    """All outputs for some noise, the same one each time."""
    shape = (network.batch or 1, side, side, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return runner(prepared(noise, network, way.preprocessing))


def _same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    if one.shape != other.shape:
        return False
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    size = max(float(np.abs(left).max(initial=0)), 1e-6)
    return bool(np.abs(left - right).max(initial=0) <= ALIKE * size)


def _with_output(
    network: Network,
    facts: Facts,
    outputs: Outputs,
    wishes: Wishes,
    n_labels: int,
    reasons: list[str],
) -> Network:
    n = network.batch or 1
    sides = {name: _sides(array, n) for name, array in outputs.items()}
    name = _chosen(sides, wishes, n_labels)
    size = prod(sides[name])
    offset = size - n_labels
    if len(sides) > 1:
        reasons.append(f"output {name}, the one with {size} numbers a picture")
    if offset:
        reasons.append(f"label offset {offset}: {size} outputs for {n_labels} labels")
    answers = np.asarray(outputs[name], np.float64).reshape(n, -1)
    gives = wishes.gives or _gives(facts, name, answers, reasons)
    return network.model_copy(update={"output": name, "label_offset": offset, "gives": gives})


def _sides(array: NDArray[Any], n: int) -> Sides:
    """Of what an output gives for one picture, without those of length one."""
    shape = array.shape[1:] if array.shape[:1] == (n,) else array.shape
    return tuple(side for side in shape if side != 1)


def _chosen(sides: dict[str, Sides], wishes: Wishes, n_labels: int) -> str:
    wanted = (
        {n_labels, n_labels + 1}
        if wishes.label_offset is None
        else {n_labels + wishes.label_offset}
    )
    if wishes.output is not None and wishes.output not in sides:
        raise CatalogError(f"it has no output {wishes.output}; there are {', '.join(sides)}")
    rows = {name: prod(found) for name, found in sides.items() if len(found) <= 1}
    fitting = [
        name for name, size in rows.items() if size in wanted and wishes.output in (None, name)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise CatalogError(f"several outputs fit: say --output-name, one of {', '.join(fitting)}")
    raise CatalogError(_unfitting(sides, rows, n_labels))


def _unfitting(sides: dict[str, Sides], rows: dict[str, int], n_labels: int) -> str:
    """Why no output is one of these labels."""
    shapes = {name: " x ".join(map(str, found)) or "1" for name, found in sides.items()}
    given = ", ".join(f"{name}: {shape}" for name, shape in shapes.items()) or "none"
    if not rows:
        return (
            f"it is no classifier: no output has one row of numbers a picture ({given}), as "
            "networks have it that find boxes or outlines, or read text"
        )
    if n_labels == PAIR and 1 in rows.values():
        return (
            f"it gives one number for {PAIR} labels ({given}): export it with a number for each, "
            "for example 1 - p and p"
        )
    return (
        f"no output has a number for each of the {n_labels} labels (numbers a picture: {given}): "
        "give the labels of this network, or its --label-offset"
    )


def _gives(facts: Facts, name: str, answers: NDArray[np.float64], reasons: list[str]) -> str:
    maker = facts.last.get(name, "")
    if maker in ENDS_IN_LOGITS:
        reasons.append(f"logits: it ends in {maker}")
        return "logits"
    if maker in ENDS_IN_PROBABILITIES:
        reasons.append(f"probabilities: it ends in {maker}")
        return "probabilities"
    sums = answers.sum(axis=1)
    if (answers >= 0).all() and np.abs(sums - 1).max() <= SUM_MARGIN:
        reasons.append("probabilities: its outputs are positive and add up to one")
        return "probabilities"
    reasons.append("logits: its outputs do not add up to one")
    return "logits"
