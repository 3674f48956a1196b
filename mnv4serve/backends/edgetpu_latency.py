"""How long an Edge TPU takes, predicted from what a model computes and sends.

Fitted to published latencies; totals are good to some 20 %, single terms are only effective
numbers. The refit lies in the tests.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Self

from mnv4serve.backends.litert_file import Contents, Operation

FULL_CLOCK_MHZ = 500.0
HIDDEN_SHARE = 0.5
"""Of the computing time, under which weights that do not fit on the chip can be streamed."""
_MEGA, _GIGA = 1e6, 1e9


@dataclass(frozen=True, slots=True)
class Work:
    """What a model asks of the chip for one picture."""

    input_bytes: int
    dense_macs: int
    depthwise_macs: int
    layers: int
    """Operators that have weights."""
    weight_bytes: int

    @classmethod
    def of(cls, contents: Contents) -> Self:
        """Counted in an int8 file before it is compiled."""
        weighted = [found for found in contents.operations if found.name in _WEIGHTED]
        depthwise = [found for found in weighted if found.name == "DEPTHWISE_CONV_2D"]
        dense = [found for found in weighted if found.name != "DEPTHWISE_CONV_2D"]
        return cls(
            input_bytes=sum(prod(shape) for _, shape in contents.ends("inputs")),
            dense_macs=_macs(contents, dense),
            depthwise_macs=_macs(contents, depthwise),
            layers=len(weighted),
            weight_bytes=contents.weight_bytes,
        )


@dataclass(frozen=True, slots=True)
class Link:
    """What connects a host with the chip."""

    fixed_ms: float
    megabytes_per_s: float

    def transfer_ms(self, n_bytes: float) -> float:
        return n_bytes / _MEGA / self.megabytes_per_s * 1000


@dataclass(frozen=True, slots=True)
class Chip:
    """Effective speeds of the chip at full clock."""

    dense_tmacs_per_s: float = 0.55
    depthwise_tmacs_per_s: float = 0.028
    instruction_bytes_per_layer: float = 4000.0
    layer_ms: float = 0.0069
    memory_bytes: float = 7.0e6
    """Left for weights."""


LINKS = {
    "usb3": Link(0.05, 478.0),
    "pcie": Link(0.05, 402.0),
    "pi4": Link(1.63, 284.0),
    "usb2": Link(0.05, 35.0),
}
"""A desktop's USB 3, the M.2 and mini PCIe cards, a Raspberry Pi 4's USB 3, any USB 2."""
CORAL = Chip()


def predicted_ms(
    work: Work, link: Link, *, clock_mhz: float = FULL_CLOCK_MHZ, chip: Chip = CORAL
) -> float:
    """One picture, its model being on the chip already."""
    sent_bytes = work.input_bytes + chip.instruction_bytes_per_layer * work.layers
    computing_ms = (
        work.dense_macs / _GIGA / chip.dense_tmacs_per_s
        + work.depthwise_macs / _GIGA / chip.depthwise_tmacs_per_s
        + chip.layer_ms * work.layers
    ) * (FULL_CLOCK_MHZ / clock_mhz)
    streaming_ms = link.transfer_ms(max(0.0, work.weight_bytes - chip.memory_bytes))
    waiting_ms = max(0.0, streaming_ms - HIDDEN_SHARE * computing_ms)
    return link.fixed_ms + link.transfer_ms(sent_bytes) + computing_ms + waiting_ms


def upload_ms(work: Work, link: Link, *, chip: Chip = CORAL) -> float:
    """What the first picture costs on top, after another model was on the chip."""
    return link.transfer_ms(min(float(work.weight_bytes), chip.memory_bytes))


_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})


def _macs(contents: Contents, operations: Iterable[Operation]) -> int:
    """Every weight is used once for each row and column of the output."""
    total = 0
    for operation in operations:
        _, rows, columns, _ = (1, 1, 1, 1, *contents.tensors[operation.outputs[0]].shape)[-4:]
        places = rows * columns if operation.name != "FULLY_CONNECTED" else 1
        total += places * prod(contents.tensors[operation.inputs[1]].shape)
    return total
