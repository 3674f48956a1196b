"""How many replicas a pool needs: by the work it is offered and the wait it imposes.

Counts of requests say little where a request may take half a millisecond or ten. What counts here
is slot time: what was executed and what had to be refused, which a count of ongoing requests never
sees.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnv4serve.config import PoolConfig

DEMAND = "demand"
WAIT_MS = "wait_ms"


@dataclass(frozen=True, slots=True)
class Load:
    """What one replica reports of the last moments."""

    demand: float
    """Slot time that it executed or that was refused for want of it, over the time it had."""
    wait_ms: float
    """Expected wait of one more request."""


@dataclass(frozen=True)
class Scaling:
    """Serve's policy of one pool: the replicas' own reports in, a number of replicas out."""

    target_busy: float
    """Share of its slots' time that a replica should work."""
    target_wait_ms: float
    """A longer expected wait asks for one replica more than the work alone."""

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401  # Serve's AutoscalingContext
        """How many replicas from now on, and nothing to remember."""
        reported = context.aggregated_metrics or {}
        demands, waits = reported.get(DEMAND, {}), reported.get(WAIT_MS, {})
        loads = [Load(demand, waits.get(replica, 0.0)) for replica, demand in demands.items()]
        wanted = self.wanted(loads, current=context.current_num_replicas)
        lowest = context.capacity_adjusted_min_replicas
        return min(max(wanted, lowest), context.capacity_adjusted_max_replicas), {}

    def wanted(self, loads: Sequence[Load], *, current: int) -> int:
        """How many replicas would do; as now where nothing is known."""
        if not loads:
            return current
        each = sum(load.demand for load in loads) / len(loads)
        wanted = math.ceil(each * current / self.target_busy - 1e-9)
        if sum(load.wait_ms for load in loads) / len(loads) > self.target_wait_ms:
            wanted = max(wanted, current + 1)
        return wanted


def replicas_of(pool: PoolConfig) -> dict[str, Any]:
    """A deployment's options for Serve: so many replicas, or as many as its work asks for."""
    if pool.max_replicas is None:
        return {"num_replicas": pool.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": pool.replicas,
            "max_replicas": pool.max_replicas,
            "look_back_period_s": 5.0,
            "upscale_delay_s": pool.autoscaling.upscale_delay_s,
            "downscale_delay_s": pool.autoscaling.downscale_delay_s,
            "policy": {
                "policy_function": "mnv4serve.serving.autoscaling:Scaling",
                "policy_kwargs": {
                    "target_busy": pool.autoscaling.target_busy,
                    "target_wait_ms": pool.autoscaling.target_wait_ms,
                },
            },
        }
    }
