"""Our policy without one of its features at a time, and arms forced at random."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from typing_extensions import override

from mnv4serve.router.estimate import Estimate, Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.market import Market
from mnv4serve.router.policies.heads import alone, bid_of
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.policy import Bid, Candidate, Order, Policy, View, fastest
from mnv4serve.router.predict import Predictor
from mnv4serve.router.schedule import Ledger


class Around:
    """Our policy with something between it and what it is shown or what it answers."""

    def __init__(self) -> None:
        self.inner: Policy = Priced()

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        return self.inner.bid(candidates, request, view)

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return self.inner.order(jobs, view)

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        self.inner.observe_arrival(request, now_ms=now_ms)

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        self.inner.observe_run(run, spent, now_ms=now_ms)


class WithoutQueue(Around):
    """Decides about every request as if there were no other."""

    @override
    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        idle = [alone(candidate, request, view) for candidate in candidates]
        return self.inner.bid(idle, request, _emptied(view))

    @override
    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return self.inner.order(jobs[:1], _emptied(view))


class WithoutUncertainty(Around):
    """Believes that every run takes exactly as long as expected."""

    @override
    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        left_ms = request.deadline_ms - view.now_ms
        certain = [Candidate(c.arm, c.estimate, _sure(c.estimate, left_ms)) for c in candidates]
        return self.inner.bid(certain, request, _believing(view))

    @override
    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return self.inner.order(jobs, _believing(view))


class WithoutLateBinding(Around):
    """Runs what admission reserved."""

    @override
    def order(self, jobs: Sequence[Job], view: View) -> Order:
        order = self.inner.order(jobs, view)
        if order.arm is None or not order.jobs:
            return order
        return replace(order, arm=order.jobs[0].arm, jobs=order.jobs[:1])


class WithoutShedding(Around):
    """Gives nothing up: takes every request, and runs what it would have dropped."""

    @override
    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        return self.inner.bid(candidates, request, view) or bid_of(fastest(candidates))

    @override
    def order(self, jobs: Sequence[Job], view: View) -> Order:
        order = self.inner.order(jobs, view)
        if not order.shed:
            return order
        job = order.shed[0]
        return Order(fastest(view.candidates(job)).arm, (job,))


class WithoutAdmission(Around):
    """Refuses nothing at arrival, but drops at dispatch as ever."""

    @override
    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        return self.inner.bid(candidates, request, view) or bid_of(fastest(candidates))


class WithoutPrice(Around):
    """Slot time costs nothing: the most accurate arm on time that makes no other job late."""

    def __init__(self) -> None:
        priced = Priced()
        priced.market = cast("Market", _FreeMarket())
        self.inner = priced


class _FreeMarket:
    price = 0.0

    def arrived(self, request: Request, now_ms: float) -> None:
        pass

    def look(self, jobs: Sequence[Job], view: View) -> None:
        pass

    def cost(self, slot_ms: float) -> float:
        del slot_ms
        return 0.0


class WithoutBatching(Around):
    """Knows of no batch that pays."""

    @override
    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return self.inner.order(jobs, _disguised(view, batch_sizes=()))


class Forced:
    """An arm at random for every request, never refused or dropped: to see hard predictions."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request, view
        return bid_of(self._chance.choice(candidates))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        del view
        return Order(jobs[0].arm, (jobs[0],))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        pass

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        pass


class _Disguised:
    """A predictor with some of its answers replaced."""

    def __init__(self, predictor: Predictor, answers: Mapping[str, object]) -> None:
        self._predictor = predictor
        self._answers = answers

    def __getattr__(self, name: str) -> object:
        return self._answers[name] if name in self._answers else getattr(self._predictor, name)


def _disguised(view: View, **answers: object) -> View:
    return replace(view, predictor=cast("Predictor", _Disguised(view.predictor, answers)))


def _believing(view: View) -> View:
    return _disguised(view, on_time_probability=_sure, squeezed_probability=_sure)


def _sure(estimate: Estimate, remaining_ms: float) -> float:
    return 1.0 if estimate.total_ms <= remaining_ms else 0.0


def _emptied(view: View) -> View:
    return replace(view, ledger=Ledger(slots=view.ledger.slots, max_queue=1))


_REMOVED: Mapping[str, Callable[..., Policy]] = {
    "without queue-awareness": WithoutQueue,
    "without uncertainty": WithoutUncertainty,
    "without price": WithoutPrice,
    "without late binding": WithoutLateBinding,
    "without batching": WithoutBatching,
    "without shedding and refusing": WithoutShedding,
    "without refusing": WithoutAdmission,
}
REMOVED = tuple(_REMOVED)
ABLATIONS: Mapping[str, Callable[..., Policy]] = {**_REMOVED, "forced": Forced}
