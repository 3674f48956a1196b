"""The interface of a policy: what it is shown, what it answers, what it is told.

A policy decides for one pool. At admission it bids for a request, and over several pools the
highest bid wins; when a slot falls free it orders what to run there. It reads no clock, does no
I/O and keeps only what it was told through the observing methods, so that the same object decides
in production, in the simulator and in tests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mnv4serve.domain import Arm, Plan, Reason
from mnv4serve.router.estimate import Estimate, Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.predict import Predictor
from mnv4serve.router.schedule import Ledger


class Candidate:
    """An eligible arm with what to expect of it now; a decision makes one for every arm.

    Its probability may come as the function that works it out, once and only if it is asked for:
    most decisions need no more than two or three of them.
    """

    __slots__ = ("_chance", "arm", "estimate")

    def __init__(
        self, arm: Arm, estimate: Estimate, chance: float | Callable[[Estimate], float]
    ) -> None:
        self.arm = arm
        self.estimate = estimate
        self._chance = chance

    @property
    def on_time_probability(self) -> float:
        chance = self._chance
        if callable(chance):
            chance = self._chance = chance(self.estimate)
        return chance


@dataclass(frozen=True, slots=True)
class View:
    """One pool at one moment; a policy reads it and changes nothing."""

    arms: tuple[Arm, ...]
    """The resident set."""
    predictor: Predictor
    ledger: Ledger
    now_ms: float
    target: float
    """Probability from which a request counts as likely on time."""

    def candidates(self, job: Job) -> list[Candidate]:
        """The arms that a waiting job may get, as they would do if it were started now, alone."""
        left_ms = job.deadline_ms - self.now_ms
        probability = self.predictor.on_time_probability

        def chance(estimate: Estimate) -> float:
            return probability(estimate, left_ms)

        runs = zip(job.arms, self._alone(job), strict=True)
        return [Candidate(arm, run, chance) for arm, run in runs]

    def together(self, arm: Arm, jobs: Sequence[Job]) -> Estimate:
        """What a batch takes on one slot: every picture decoded, then one inference."""
        if len(jobs) == 1:
            runs_alone = zip(jobs[0].arms, self._alone(jobs[0]), strict=True)
            return next(run for one, run in runs_alone if one is arm)
        there, size = self.ledger.residency, len(jobs)
        switch_ms = there.switch_ms(arm.id) if there else 0.0
        runs = [
            self.predictor.expect(arm, job.picture, wait_ms=0.0, batch=size, switch_ms=switch_ms)
            for job in jobs
        ]
        decode_ms = sum(run.decode_ms for run in runs)
        return runs[-1]._replace(decode_ms=decode_ms)

    def probability(self, estimate: Estimate, job: Job) -> float:
        """That a job is on time if a run with this estimate starts now."""
        return self.predictor.on_time_probability(estimate, job.deadline_ms - self.now_ms)

    def _alone(self, job: Job) -> Sequence[Estimate]:
        predictor, there = self.predictor, self.ledger.residency
        if there is None:
            return predictor.alone(job.arms, job.picture)
        return [
            predictor.expect(arm, job.picture, wait_ms=0.0, switch_ms=there.switch_ms(arm.id))
            for arm in job.arms
        ]


@dataclass(frozen=True, slots=True)
class Bid:
    """The candidate that a pool offers for a request."""

    candidate: Candidate
    value: float
    """What serving the request there is worth; compared with the bids of other pools."""
    likely: bool = True
    """Whether to promise it; otherwise it is worth a try."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an idle slot shall do.

    `jobs` run together on `arm`; members whose terms do not allow the arm are left waiting. Without
    jobs the slot stays idle until the next arrival or end of a run. `shed` are given up: answered
    late, behind everything, where the caller takes late answers, otherwise told so at once.
    """

    arm: Arm | None = None
    jobs: tuple[Job, ...] = ()
    shed: tuple[Job, ...] = ()


class Policy(Protocol):
    """Decides for one pool, from what it is shown and what it was told before."""

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        """Reserve an arm for a request; None where no arm is worth queueing it as on time.

        Each candidate's estimate holds the wait at the request's place in the queue, as the
        reservations ahead of it have it.
        """
        ...

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        """What the idle slot shall do; `jobs` wait and have not expired, in their order.

        Never empty; earliest deadline first, degraded ones after all others.
        """
        ...

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        """A request came that this pool took, or that no pool took."""
        ...

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        """A run of this pool has ended."""
        ...


def most_accurate_on_time(candidates: Sequence[Candidate], *, target: float) -> Candidate | None:
    """The most accurate arm whose probability of being on time reaches the target."""
    on_time = [c for c in candidates if c.on_time_probability >= target]
    return min(on_time, key=_accuracy_first, default=None)


def fastest(candidates: Sequence[Candidate]) -> Candidate:
    """The arm whose answer is expected first."""
    return min(candidates, key=_speed_first)


def plan_of(candidate: Candidate, reason: Reason) -> Plan:
    """A candidate as the plan it becomes when chosen."""
    estimate = candidate.estimate
    return Plan(
        arm=candidate.arm,
        predicted_ms=estimate.total_ms,
        wait_ms=estimate.wait_ms,
        decode_ms=estimate.decode_ms,
        service_ms=estimate.service_ms,
        hop_ms=estimate.hop_ms,
        reply_ms=estimate.reply_ms,
        on_time_probability=candidate.on_time_probability,
        reason=reason,
        switch_ms=estimate.switch_ms,
    )


def _accuracy_first(candidate: Candidate) -> tuple[float, float, str]:
    accuracy = candidate.arm.accuracy
    known = -1.0 if accuracy is None else accuracy
    return -known, candidate.estimate.total_ms, candidate.arm.id


def _speed_first(candidate: Candidate) -> tuple[float, float, str]:
    accuracy = candidate.arm.accuracy
    known = -1.0 if accuracy is None else accuracy
    return candidate.estimate.total_ms, -known, candidate.arm.id
