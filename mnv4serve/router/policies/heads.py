"""What the rival policies share: they decide about the head of the queue, and learn nothing."""

from collections.abc import Callable, Sequence

from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest

HOPELESS = 0.02
"""Below this probability of being on time a job is given up instead of run; kind to the rivals
whose papers would run it."""


class Memoryless:
    """A policy to which it does not matter what happened before."""

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        pass

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        pass


def bid_of(candidate: Candidate) -> Bid:
    """Worth its expected accuracy, so that among pools the more accurate and punctual one wins."""
    return Bid(candidate, (candidate.arm.accuracy or 0.0) * candidate.on_time_probability)


def take_head(
    jobs: Sequence[Job], view: View, choose: Callable[[Job, Sequence[Candidate]], Candidate]
) -> Order:
    """Run the job that is due first on the chosen arm, alone; degraded ones on the fastest."""
    head = jobs[0]
    candidates = view.candidates(head)
    if head.tier:
        return Order(fastest(candidates).arm, (head,))
    pick = choose(head, candidates)
    if pick.on_time_probability < HOPELESS:
        return Order(shed=(head,))
    return Order(pick.arm, (head,))


def on_arm(candidates: Sequence[Candidate], arm_id: str) -> Candidate:
    """The candidate of this arm, or the fastest where the caller's terms do not allow it."""
    return next((c for c in candidates if c.arm.id == arm_id), None) or fastest(candidates)


def alone(candidate: Candidate, request: Request, view: View) -> Candidate:
    """The candidate as it would do on an idle device."""
    estimate = candidate.estimate.after(0.0)
    left_ms = request.deadline_ms - view.now_ms
    probability = view.predictor.on_time_probability(estimate, left_ms)
    return Candidate(candidate.arm, estimate, probability)
