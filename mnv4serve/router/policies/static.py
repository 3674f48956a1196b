"""One arm for everything: what a server without a choice does."""

from collections.abc import Sequence

from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.policies.heads import Memoryless, bid_of, on_arm, take_head
from mnv4serve.router.policy import Bid, Candidate, Order, View


class Static(Memoryless):
    """Every request runs on the same arm, earliest deadline first; nothing is refused.

    Better than a plain server in two ways: the queue is not first come first served, and what
    cannot be on time any more is not run.
    """

    def __init__(self, arm_id: str) -> None:
        self._arm_id = arm_id

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request, view
        return bid_of(on_arm(candidates, self._arm_id))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return take_head(jobs, view, lambda _, candidates: on_arm(candidates, self._arm_id))
