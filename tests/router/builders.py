"""Values that the router's tests are made of."""

from collections.abc import Sequence

from mnv4serve.domain import (
    Arm,
    BackendName,
    OnMiss,
    Picture,
    Plan,
    Precision,
    Reason,
    Terms,
    Timing,
)
from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.router.estimate import Estimate
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.planner import Pool, Rules, admit, dispatch
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.policy import Candidate
from mnv4serve.router.predict import Predictor
from mnv4serve.router.refusal import Refusal
from mnv4serve.router.schedule import Ledger

PHOTO = Picture("JPEG", width=500, height=375, n_bytes=107_000)
FREE = DecodeCost(0.0, 0.0, 0.0, 0.0, 0.0)
"""A decoder that takes no time, where decoding is beside the point."""
DECODE = DecodeCost(0.1, 4.0, 3.0, 1.0, 20.0)


def arm(
    variant: str = "conv_small@224",
    *,
    accuracy: float | None = 0.8,
    backend: BackendName = BackendName.CPU,
    resolution: int = 224,
    device: str = "cpu",
) -> Arm:
    return Arm(variant, backend, Precision.FP32, device, resolution, accuracy)


def arms_of(*accuracies: float, device: str = "cpu") -> tuple[Arm, ...]:
    """Arms v0, v1, ... with these accuracies."""
    return tuple(
        arm(f"v{index}", accuracy=accuracy, device=device)
        for index, accuracy in enumerate(accuracies)
    )


def timing(p50_ms: float) -> Timing:
    return Timing(p50_ms=p50_ms, p90_ms=1.05 * p50_ms, p99_ms=1.2 * p50_ms, n=200)


def predictor(
    arms: Sequence[Arm], service_ms: Sequence[float], *, decode: DecodeCost = FREE
) -> Predictor:
    timings = {a.id: {1: timing(ms)} for a, ms in zip(arms, service_ms, strict=True)}
    return Predictor(timings=timings, decode=decode, reply_ms=0.1)


def pool(
    arms: Sequence[Arm],
    service_ms: Sequence[float],
    *,
    slots: int = 1,
    max_queue: int = 64,
    decode: DecodeCost = FREE,
) -> Pool:
    return Pool(
        device=arms[0].device,
        arms=tuple(arms),
        predictor=predictor(arms, service_ms, decode=decode),
        ledger=Ledger(slots=slots, max_queue=max_queue),
        policy=Priced(),
    )


def request(
    budget_ms: float, *, id_: int = 1, received_ms: float = 0.0, on_miss: OnMiss = OnMiss.DEGRADE
) -> Request:
    return Request(id_, PHOTO, Terms(budget_ms=budget_ms, on_miss=on_miss), received_ms)


def candidate(
    of: Arm, *, run_ms: float = 1.0, probability: float = 1.0, wait_ms: float = 0.0
) -> Candidate:
    return Candidate(of, Estimate(wait_ms, 0.0, run_ms, 0.0, 0.0), probability)


def plan(of: Arm | None = None, *, reason: Reason = Reason.MOST_ACCURATE_ON_TIME) -> Plan:
    return Plan(of or arm(), 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, reason)


def job(
    number: int,
    *,
    deadline_ms: float,
    expected_ms: float = 1.0,
    late_ms: float = 0.0,
    tier: int = 0,
    margin_ms: float = 0.0,
) -> Job:
    return Job(
        id=number,
        arrived_ms=0.0,
        deadline_ms=deadline_ms,
        expire_ms=deadline_ms + late_ms,
        picture=PHOTO,
        terms=Terms(),
        plan=plan(),
        arms=(),
        expected_ms=expected_ms,
        least_ms=expected_ms,
        tier=tier,
        margin_ms=margin_ms,
    )


RULES = Rules()
ARMS = arms_of(0.7, 0.8, 0.9)
SERVICE_MS = (1.0, 3.0, 9.0)
"""Three arms that a caller can choose among by budget, and what each takes."""


def admitted(pools: list[Pool], wanted: Request, *, now_ms: float = 0.0) -> Job:
    decided = admit(pools, wanted, now_ms=now_ms, rules=RULES)
    assert isinstance(decided, Job)
    return decided


def refused(pools: list[Pool], wanted: Request, *, now_ms: float = 0.0) -> Refusal:
    decided = admit(pools, wanted, now_ms=now_ms, rules=RULES)
    assert isinstance(decided, Refusal)
    return decided


def busy_pool(queue: list[tuple[float, float]], *, slots: int = 1) -> Pool:
    """A pool whose slots are taken and whose queue holds (deadline, expected) jobs."""
    subject = pool(ARMS, SERVICE_MS, slots=slots)
    for slot in range(slots):
        subject.ledger.start(1000 + slot, 0.0, expected_ms=4.0 + slot)
    for number, (deadline_ms, expected_ms) in enumerate(queue, start=100):
        subject.ledger.admit(job(number, deadline_ms=deadline_ms, expected_ms=expected_ms))
    return subject


def started(subject: Pool, now_ms: float) -> Run | None:
    """What dispatch starts."""
    return dispatch(subject, now_ms=now_ms, rules=RULES).run


def taken(ledger: Ledger, now_ms: float) -> Job | None:
    """The job that is next, taken out of the queue."""
    job = next(iter(ledger.ready(now_ms)), None)
    if job is not None:
        ledger.remove(job.id)
    return job
