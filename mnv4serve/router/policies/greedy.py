"""The most accurate arm that fits, without and with a look at the queue."""

from collections.abc import Sequence

from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.policies.heads import Memoryless, alone, bid_of, on_arm, take_head
from mnv4serve.router.policy import (
    Bid,
    Candidate,
    Order,
    View,
    fastest,
    most_accurate_on_time,
)


class QueueBlind(Memoryless):
    """The most accurate arm that would fit the budget on an idle device; nothing is refused.

    What a table of latencies beside the models leads to, as in Tolerance Tiers (ISPASS 2019) and
    the choice of model and resolution per client in Jellyfish (RTSS 2022).
    """

    def __init__(self, target: float | None = None) -> None:
        self._target = target
        """Probability from which an arm counts as fitting; the service's if None."""

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        idle = [alone(candidate, request, view) for candidate in candidates]
        pick = most_accurate_on_time(idle, target=self._target or view.target) or fastest(idle)
        return bid_of(on_arm(candidates, pick.arm.id))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return take_head(jobs, view, lambda job, candidates: on_arm(candidates, job.arm.id))


class QueueAware(Memoryless):
    """The most accurate arm that fits behind the work that is already there; else refuse.

    The choice by predicted latency that RouteBalance (2606.17949) and other deadline-aware routers
    make at arrival; it is not made again.
    """

    def __init__(self, target: float | None = None) -> None:
        self._target = target

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request
        pick = most_accurate_on_time(candidates, target=self._target or view.target)
        return None if pick is None else bid_of(pick)

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return take_head(jobs, view, lambda job, candidates: on_arm(candidates, job.arm.id))


class LateBinding(Memoryless):
    """The most accurate arm that fits the time left when a slot falls free; nothing is refused.

    What is left of ours without a price, a look at those behind, and admission.
    """

    def __init__(self, target: float | None = None) -> None:
        self._target = target

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request, view
        return bid_of(fastest(candidates))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        target = self._target or view.target
        return take_head(
            jobs,
            view,
            lambda _, found: most_accurate_on_time(found, target=target) or fastest(found),
        )
