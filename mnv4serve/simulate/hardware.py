"""What is simulated: kinds of devices with their arms, nodes, clusters, and what they can carry."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from mnv4serve.domain import Arm, Picture, Timing
from mnv4serve.errors import BadConfig
from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.router.frontier import Point, frontier

MS_PER_S = 1000.0
TYPICAL = Picture("JPEG", width=500, height=375, n_bytes=107_000)
"""A photo as the web has them; the picture of every request unless a scenario names others."""
ADMISSION = 0.6
"""Of the event loop's time for a request: what it takes until the job is queued."""
NO_DECODING = DecodeCost(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Kind:
    """A kind of device as it was profiled; every device of it is the same."""

    name: str
    arms: tuple[Arm, ...]
    timings: Mapping[str, Mapping[int, Timing]]
    """By arm id and batch size, as `Predictor` takes them."""
    slots: int
    decode: DecodeCost = NO_DECODING
    hop_ms: float = 0.0
    """From dispatch to the slot and back; the slot is taken as long."""
    reply_ms: float = 0.0
    """Writing the reply; the slot is free by then."""
    cost: float = 1.0
    """Of one device, in any unit that all kinds share."""
    told: Mapping[str, Mapping[int, Timing]] | None = None
    """The profile that its router goes by where `timings`, which then are true, are others."""
    decodings: Mapping[tuple[Picture, int], float] | None = None
    """What decoding really takes, by picture and resolution, where that is known; the router goes
    by `decode`."""

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """The place of each arm in tables over arms, by id."""
        return {arm.id: place for place, arm in enumerate(self.arms)}

    def service_ms(self, arm_id: str, batch: int = 1) -> float:
        """Median inference of a batch: in the next larger size that was profiled."""
        by_batch = self.timings[arm_id]
        if batch in by_batch:
            return by_batch[batch].p50_ms
        return by_batch[min(size for size in by_batch if size > batch)].p50_ms

    def largest_batch(self, arm_id: str) -> int:
        """The largest batch that was profiled; no run may be larger."""
        return max(self.timings[arm_id])

    def decode_ms(self, picture: Picture, resolution: int) -> float:
        """What decoding really takes half of the times at most."""
        known_ms = (self.decodings or {}).get((picture, resolution))
        return self.decode.expect(picture, resolution) if known_ms is None else known_ms

    def slot_ms(self, arm: Arm, picture: Picture = TYPICAL) -> float:
        """How long one request takes a slot."""
        decode_ms = self.decode_ms(picture, arm.resolution)
        return self.hop_ms + decode_ms + self.service_ms(arm.id)

    def frontier(self, picture: Picture = TYPICAL) -> tuple[Arm, ...]:
        """Arms that no other beats on both slot time and accuracy, fastest first."""
        return frontier(Point(arm, self.slot_ms(arm, picture)) for arm in self.arms)

    def reference_arm(self, picture: Picture = TYPICAL) -> Arm:
        """The arm that load is counted in: in the middle of the frontier, the faster of two."""
        best = self.frontier(picture)
        return best[(len(best) - 1) // 2]

    def capacity_per_s(self, arm: Arm | None = None) -> float:
        """Requests a second that keep every slot busy with one arm, the reference arm if none."""
        return self.slots * MS_PER_S / self.slot_ms(arm or self.reference_arm())

    def on_device(self, device: str) -> "Kind":
        """The same arms under another device's name."""
        renamed = {arm.id: replace(arm, device=device, id="") for arm in self.arms}
        timings = {renamed[arm_id].id: by_batch for arm_id, by_batch in self.timings.items()}
        return replace(self, arms=tuple(renamed.values()), timings=timings)


@dataclass(frozen=True, slots=True)
class Loop:
    """What a node's event loop does for each request, one after another, on the slots' cores."""

    admit_ms: float = 0.0
    """From the request's last byte until its job is queued or refused."""
    reply_ms: float = 0.0
    """From the slot's end until the reply is handed over."""

    def __post_init__(self) -> None:
        for value_ms in (self.admit_ms, self.reply_ms):
            if not 0.0 <= value_ms < math.inf:
                raise BadConfig(f"an event loop of {value_ms:g} ms a request: it must be 0 or more")

    @classmethod
    def of(cls, both_ms: float) -> Self:
        """The usual parts of what it takes for a request."""
        return cls(ADMISSION * both_ms, (1.0 - ADMISSION) * both_ms)

    @property
    def both_ms(self) -> float:
        return self.admit_ms + self.reply_ms


FREE = Loop()


@dataclass(frozen=True, slots=True)
class Node:
    """A machine: its own router over its own devices."""

    devices: tuple[Kind, ...]
    loop: Loop = FREE

    def named_devices(self) -> tuple[Kind, ...]:
        """The devices, with names that tell those of one kind apart."""
        times = Counter(kind.name for kind in self.devices)
        seen: Counter[str] = Counter()
        named = []
        for kind in self.devices:
            if times[kind.name] > 1:
                named.append(kind.on_device(f"{kind.name}:{seen[kind.name]}"))
                seen[kind.name] += 1
            else:
                named.append(kind)
        return tuple(named)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes behind a load balancer that sends each request to the freer of two nodes."""

    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, *kinds: Kind, replicas: int = 1, loop: Loop = FREE) -> "Cluster":
        """So many nodes with one device of each kind."""
        return cls((Node(kinds, loop),) * replicas)

    @property
    def devices(self) -> tuple[Kind, ...]:
        return tuple(kind for node in self.nodes for kind in node.devices)

    def capacity_per_s(self) -> float:
        """Load 1.0: every slot of every device busy with its kind's reference arm, or the loop."""
        return sum(
            kind.slots * MS_PER_S / (kind.slot_ms(kind.reference_arm()) + node.loop.both_ms)
            for node in self.nodes
            for kind in node.devices
        )
