"""What became of every request, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from mnv4serve.domain import Arm, Outcome, Plan, Reason
from mnv4serve.router.jobs import Job
from mnv4serve.simulate.devices import Device
from mnv4serve.simulate.scenario import Offered, Scenario

OUTCOMES = (Outcome.ON_TIME, Outcome.LATE, Outcome.REFUSED, Outcome.EXPIRED, Outcome.SHED)
"""How a simulated request can end; records hold places in it."""
_OPEN = -1
_CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_ON_TIME, _LATE, _EXPIRED = (
    _CODES[outcome] for outcome in (Outcome.ON_TIME, Outcome.LATE, Outcome.EXPIRED)
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Records:
    """One entry a request in each array, in order of arrival."""

    scenario: Scenario
    offered: Offered
    arms: tuple[Arm, ...]
    """Of all kinds; `arm` counts in it."""
    outcome: NDArray[np.int64]
    """Place in OUTCOMES."""
    latency_ms: Floats
    """From arrival to the written reply; NaN where there was none."""
    wait_ms: Floats
    """From arrival to dispatch; NaN where it never came to that."""
    arm: NDArray[np.int64]
    """That ran; -1 where none did."""
    device: NDArray[np.int64]
    """That ran it; -1 where none did."""
    batch: NDArray[np.int64]
    """How many were run together; 0 where nothing ran."""
    promised: Floats
    """Probability of being on time as planned at admission; NaN where refused."""
    bound: Floats
    """The same as planned at dispatch; NaN where nothing ran."""
    promise: NDArray[np.bool_]
    """Whether admission took it as likely on time."""
    avoidable: NDArray[np.bool_]
    """Refused or degraded although some arm would really have made it, behind the work that was
    due earlier."""
    horizon_ms: float
    """From the start to the end of the last run."""
    busy_ms: Floats
    """By device: slot time spent on runs."""
    cpu_s: float
    """Processor time of the simulation itself."""

    def is_(self, *outcomes: Outcome) -> NDArray[np.bool_]:
        """Which requests ended in one of these ways."""
        found: NDArray[np.bool_] = np.isin(self.outcome, [_CODES[outcome] for outcome in outcomes])
        return found

    @property
    def on_time(self) -> NDArray[np.bool_]:
        return self.is_(Outcome.ON_TIME)

    @property
    def value(self) -> Floats:
        """By request: its arm's accuracy where the answer was on time, else 0."""
        accuracies = np.array([arm.accuracy or 0.0 for arm in self.arms])
        return np.where(self.on_time, accuracies[self.arm], 0.0)


class Record:
    """Takes down what happens while it happens."""

    def __init__(self, scenario: Scenario, offered: Offered, arms: Sequence[Arm]) -> None:
        n = scenario.requests
        self._scenario = scenario
        self._offered = offered
        self._arms = tuple(arms)
        self._outcome = [_OPEN] * n
        self._latency_ms = [nan] * n
        self._wait_ms = [nan] * n
        self._arm = [-1] * n
        self._device = [-1] * n
        self._batch = [0] * n
        self._promised = [nan] * n
        self._bound = [nan] * n
        self._promise = [False] * n
        self._avoidable = [False] * n

    def promised(self, job: Job) -> None:
        """A request was admitted."""
        self._promised[job.id] = job.plan.on_time_probability
        self._promise[job.id] = job.plan.reason is not Reason.DEGRADED

    def missed(self, request: int, *, avoidable: bool) -> None:
        """A request was refused or degraded."""
        self._avoidable[request] = avoidable

    def ended(self, request: int, outcome: Outcome) -> None:
        """A request ended without an answer."""
        assert self._outcome[request] == _OPEN, "a request ends once"
        self._outcome[request] = _CODES[outcome]

    def answered(self, job: Job, plan: Plan, device: Device, end_ms: float, *, batch: int) -> None:
        """A run ended that held this job; its reply is written at `end_ms`."""
        request = job.id
        assert self._outcome[request] == _OPEN, "a request ends once"
        self._latency_ms[request] = end_ms - job.arrived_ms
        self._wait_ms[request] = plan.wait_ms
        self._arm[request] = device.first_column + device.places[plan.arm.id]
        self._device[request] = device.index
        self._batch[request] = batch
        self._bound[request] = plan.on_time_probability
        if end_ms <= job.deadline_ms:
            self._outcome[request] = _ON_TIME
        elif end_ms - device.kind.reply_ms <= job.expire_ms:
            self._outcome[request] = _LATE
        else:
            self._outcome[request] = _EXPIRED

    def done(self, *, horizon_ms: float, busy_ms: Sequence[float], cpu_s: float) -> Records:
        """Everything as arrays; every request has ended."""
        assert _OPEN not in self._outcome, "every request ends"
        return Records(
            scenario=self._scenario,
            offered=self._offered,
            arms=self._arms,
            outcome=np.array(self._outcome),
            latency_ms=np.array(self._latency_ms),
            wait_ms=np.array(self._wait_ms),
            arm=np.array(self._arm),
            device=np.array(self._device),
            batch=np.array(self._batch),
            promised=np.array(self._promised),
            bound=np.array(self._bound),
            promise=np.array(self._promise),
            avoidable=np.array(self._avoidable),
            horizon_ms=max(horizon_ms, self._offered.horizon_ms),
            busy_ms=np.array(busy_ms),
            cpu_s=cpu_s,
        )
