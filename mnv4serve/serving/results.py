"""What becomes of a job that a pool was given."""

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnv4serve.domain import Plan, Stages
from mnv4serve.errors import BackendUnavailable
from mnv4serve.router.jobs import Run
from mnv4serve.serving.slot import Finished


class Lost(Exception):  # no caller sees it: the request goes to another pool
    """The pool cannot do a job that it was given; another may."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a job that went through a slot."""

    plan: Plan
    """As decided at dispatch."""
    stages: Stages
    """`total_ms` until the slot had finished."""
    logits: NDArray[np.float32]


def result_of(run: Run, number: int, finished: Finished, now: float) -> Ran | Exception:
    """What a finished run came to for one of its jobs, or what it failed with."""
    result = finished.results[number]
    if isinstance(result, BackendUnavailable):  # lost for good, or until it is plugged in again
        return Lost(str(result))
    if isinstance(result, Exception):
        return result
    plan = run.plans[number]
    stages = Stages(
        wait_ms=plan.wait_ms,
        decode_ms=finished.decode_ms,
        service_ms=finished.service_ms,
        total_ms=now - run.jobs[number].arrived_ms,
    )
    return Ran(plan, stages, result)


def settle(done: asyncio.Future[Ran], outcome: Ran | Exception) -> None:
    """End the waiting of whoever still waits; only on the event loop."""
    if done.done():  # cancelled or expired meanwhile
        return
    if isinstance(outcome, Ran):
        done.set_result(outcome)
    else:
        done.set_exception(outcome)
