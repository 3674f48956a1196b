"""What travels through the router: a request, the job it becomes, the run that jobs end in."""

from dataclasses import dataclass

from mnv4serve.domain import Arm, Picture, Plan, Terms
from mnv4serve.router.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Request:
    """What admission has to know of a request."""

    id: int
    picture: Picture
    terms: Terms
    received_ms: float

    @property
    def deadline_ms(self) -> float:
        return self.received_ms + self.terms.budget_ms


@dataclass(frozen=True, slots=True)
class Job:
    """A request that was admitted to a pool."""

    id: int
    arrived_ms: float
    deadline_ms: float
    """When the budget ends; the reply's own cost is part of the prediction."""
    expire_ms: float
    """From then on it is dropped: the deadline, plus the late limit where degrading is allowed."""
    picture: Picture
    terms: Terms
    plan: Plan
    """As decided at admission; its arm is reserved, not bound."""
    arms: tuple[Arm, ...]
    """The pool's arms that the terms allow."""
    expected_ms: float
    """How long the reserved arm will take a slot, its weights being on the device."""
    least_ms: float
    """How long the fastest of `arms` would."""
    tier: int = 0
    """0: in the order of deadlines. 1: degraded, behind all work that is not."""
    margin_ms: float = 0.0
    """What has to be left between its expected end on the fastest arm and the deadline."""
    scatter_ms: float = 0.0
    """The part of the margin that is chance; with runs ahead of it more may go wrong."""

    @property
    def arm(self) -> Arm:
        return self.plan.arm


@dataclass(frozen=True, slots=True)
class Run:
    """One or more jobs that were given a slot together, with the arm they are bound to."""

    jobs: tuple[Job, ...]
    plans: tuple[Plan, ...]
    """Of each job, as decided at dispatch; `wait_ms` is what the job has really waited."""
    estimate: Estimate
    """Of the whole run from now on: every picture decoded, then one inference."""
    slot: int

    @property
    def id(self) -> int:
        """What the ledger knows the run by: its first job's number."""
        return self.jobs[0].id

    @property
    def arm(self) -> Arm:
        return self.plans[0].arm
