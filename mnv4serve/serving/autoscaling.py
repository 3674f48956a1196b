"""How many replicas a pool needs: by the work it is offered and the wait it imposes.

Counts of requests say little where a request may take half a millisecond or ten. What counts here
is slot time: what was executed and what had to be refused, which a count of ongoing requests never
sees.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TARGET_BUSY = 0.6
"""Share of its slots' time that a replica should work; the rest keeps waits short in bursts."""
TARGET_WAIT_MS = 5.0
"""A longer expected wait asks for one replica more than the work alone."""
DEMAND = "demand"
WAIT_MS = "wait_ms"


@dataclass(frozen=True, slots=True)
class Load:
    """What one replica reports of the last moments."""

    demand: float
    """Slot time that it executed or that was refused for want of it, over the time it had."""
    wait_ms: float
    """Expected wait of one more request."""


def replicas_wanted(loads: Sequence[Load], *, current: int, lowest: int, highest: int) -> int:
    """How many replicas the pool should have, between the bounds; as now where nothing is known."""
    if not loads:
        return min(max(current, lowest), highest)
    each = sum(load.demand for load in loads) / len(loads)
    wanted = math.ceil(each * current / TARGET_BUSY - 1e-9)
    if sum(load.wait_ms for load in loads) / len(loads) > TARGET_WAIT_MS:
        wanted = max(wanted, current + 1)
    return min(max(wanted, lowest), highest)


def scale(context: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401  # Serve's AutoscalingContext
    """Serve's policy function: the replicas' own reports in, a number of replicas out."""
    reported = context.aggregated_metrics or {}
    demands, waits = reported.get(DEMAND, {}), reported.get(WAIT_MS, {})
    loads = [Load(demand, waits.get(replica, 0.0)) for replica, demand in demands.items()]
    wanted = replicas_wanted(
        loads,
        current=context.current_num_replicas,
        lowest=context.capacity_adjusted_min_replicas,
        highest=context.capacity_adjusted_max_replicas,
    )
    return wanted, {}
