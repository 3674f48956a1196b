"""A pool of three arms that a policy under test decides for."""

from collections.abc import Sequence

from mnv4serve.domain import OnMiss
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Run
from mnv4serve.router.planner import Pool, Step, admit, arrived, dispatch, learn
from mnv4serve.router.policy import Policy
from mnv4serve.router.refusal import Refusal
from tests.router.builders import ARMS, RULES, SERVICE_MS, pool, request

SMALL, MIDDLE, LARGE = (arm.id for arm in ARMS)
"""They take 1, 3 and 9 ms and are 70, 80 and 90 % accurate."""


class Desk:
    """Asks as a service would: admission on arrival, dispatch when a slot is free."""

    def __init__(
        self, policy: Policy, *, slots: int = 1, service_ms: Sequence[float] = SERVICE_MS
    ) -> None:
        base = pool(ARMS, service_ms, slots=slots)
        self.pool = Pool(base.device, base.arms, base.predictor, base.ledger, policy)
        self._number = 0

    def arrive(self, budget_ms: float, *, now_ms: float = 0.0) -> Job | Refusal:
        """A request comes and is queued, or refused."""
        self._number += 1
        wanted = request(budget_ms, id_=self._number, received_ms=now_ms, on_miss=OnMiss.REFUSE)
        decision = admit([self.pool], wanted, now_ms=now_ms, rules=RULES)
        arrived([self.pool], wanted, decision, now_ms=now_ms)
        if isinstance(decision, Job):
            self.pool.ledger.admit(decision)
        return decision

    def dispatch(self, now_ms: float = 0.0) -> Step:
        return dispatch(self.pool, now_ms=now_ms, rules=RULES)

    def started(self, now_ms: float = 0.0) -> Run:
        """What is started, where something must be."""
        run = self.dispatch(now_ms).run
        assert run is not None
        return run

    def finish(self, run: Run, *, now_ms: float, took: float = 1.0) -> None:
        """A run ends after `took` times as long as was expected of it."""
        self.pool.ledger.finish(run.id, now_ms)
        service_ms = took * run.estimate.service_ms
        learn(self.pool, run, Spent(0.0, service_ms, service_ms), now_ms=now_ms)

    def serve(self, budget_ms: float, *, now_ms: float = 0.0, took: float = 1.0) -> str:
        """One request on an idle device, from arrival to end: the arm that ran it."""
        self.arrive(budget_ms, now_ms=now_ms)
        run = self.started(now_ms)
        self.finish(run, now_ms=now_ms + took * run.estimate.run_ms, took=took)
        return run.arm.id


def reserved(decision: Job | Refusal) -> str:
    """The arm that admission reserved."""
    assert isinstance(decision, Job)
    return decision.arm.id
