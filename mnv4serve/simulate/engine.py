"""The event loop: arrivals, ends of runs, expiries and faults in the order of their times.

The router's own admission, dispatch and learning decide everything; here is only what a process
would do around them, in the order in which the serving pool does it. Decisions take no simulated
time.
"""

import gc
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import thread_time
from typing import Any

from mnv4serve.domain import Arm, Outcome, Terms
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.planner import Rules, admit, arrived, dispatch, learn, learn_expired
from mnv4serve.router.policies import MakePolicy
from mnv4serve.router.refusal import Refusal, RefusalKind
from mnv4serve.simulate.balance import Balancer
from mnv4serve.simulate.devices import (
    Device,
    Group,
    Running,
    build_groups,
    could_be_on_time,
)
from mnv4serve.simulate.faults import outages_of
from mnv4serve.simulate.records import Record, Records
from mnv4serve.simulate.scenario import Offered, Scenario, offer
from mnv4serve.simulate.truth import Truth

Progress = Callable[[int, int], None]
"""How many requests have come, how many there are."""
RULES = Rules()
STEPS = 200
"""How often a run tells its progress."""

_Act = Callable[[float, Any], None]


def simulate(
    scenario: Scenario,
    make_policy: MakePolicy,
    *,
    rules: Rules = RULES,
    offered: Offered | None = None,
    progress: Progress | None = None,
    simulation: "type[Simulation] | None" = None,
) -> Records:
    """Run one policy through a scenario; `offered` where its requests have been drawn already.

    Equal arguments give equal records.
    """
    run = (simulation or Simulation)(scenario, make_policy, rules, offered or offer(scenario))
    collecting = gc.isenabled()
    gc.disable()  # values refer to no cycles, and looking for some takes a tenth of the time
    started_s = thread_time()
    try:
        run.play(progress)
    finally:
        if collecting:
            gc.enable()
    return run.record.done(
        horizon_ms=run.end_ms,
        busy_ms=[device.busy_ms for group in run.groups for device in group.devices],
        cpu_s=thread_time() - started_s,
    )


class Simulation:
    """One policy on one scenario; `ran` is there to be overridden."""

    def __init__(
        self, scenario: Scenario, make_policy: MakePolicy, rules: Rules, offered: Offered
    ) -> None:
        self.truth = Truth(scenario, offered)
        self.groups = build_groups(
            scenario,
            make_policy,
            horizon_ms=offered.horizon_ms,
            first_columns=self.truth.first_column,
        )
        self._loops = [group.loop for group in self.groups for _ in group.devices]
        self.record = Record(scenario, offered, self.truth.arms)
        self.end_ms = 0.0
        self._scenario = scenario
        self._offered = offered
        self._rules = rules
        self._balancer = Balancer(scenario, self.groups)
        self._budgets = offered.budgets_ms.tolist()
        self._pictures = [scenario.pictures[place] for place in offered.pictures.tolist()]
        self._events: list[tuple[float, int, _Act, Any]] = []
        self._sequence = count()
        self._plan_outages()

    def play(self, progress: Progress | None) -> None:
        n = self._scenario.requests
        step = max(1, n // STEPS)
        for request, now_ms in enumerate(self._offered.arrivals_ms.tolist()):
            self._until(now_ms)
            self._come(request, now_ms)
            if progress is not None and (request + 1) % step == 0:
                progress(request + 1, n)
        self._until(inf)

    def _until(self, now_ms: float) -> None:
        events = self._events
        while events and events[0][0] <= now_ms:
            at_ms, _, act, argument = heappop(events)
            act(at_ms, argument)

    def _at(self, time_ms: float, act: _Act, argument: object) -> None:
        heappush(self._events, (time_ms, next(self._sequence), act, argument))

    def _come(self, number: int, now_ms: float) -> None:
        group = self._balancer.pick(number, now_ms, now_ms + self._budgets[number])
        terms = Terms(budget_ms=self._budgets[number], on_miss=self._scenario.on_miss)
        request = Request(number, self._pictures[number], terms, now_ms)
        admitted_ms = group.loop.work(now_ms, group.loop.cost.admit_ms)
        if admitted_ms > now_ms:
            self._at(admitted_ms, self._arrive, (group, request))
        else:
            self._arrive(now_ms, (group, request))

    def _arrive(self, now_ms: float, what: tuple[Group, Request]) -> None:
        group, request = what
        decision = self._decide(group, request, now_ms)
        arrived(group.pools, request, decision, now_ms=now_ms)
        if isinstance(decision, Refusal):
            self._refuse(group, request, decision, now_ms)
            return
        self.record.promised(decision)
        if decision.tier:
            self.record.missed(request.id, avoidable=self._avoidable(group, request, now_ms))
        self._queue(group.by_name[decision.arm.device], decision, now_ms)

    def _decide(self, group: Group, request: Request, now_ms: float) -> Job | Refusal:
        return admit(group.pools, request, now_ms=now_ms, rules=self._rules, down=_down(group))

    def _refuse(self, group: Group, request: Request, refusal: Refusal, now_ms: float) -> None:
        if refusal.kind in (RefusalKind.BUSY, RefusalKind.INFEASIBLE):
            for pool in group.pools:
                pool.predictor.refused()
        self.record.ended(request.id, Outcome.REFUSED)
        self.record.missed(request.id, avoidable=self._avoidable(group, request, now_ms))

    def _queue(self, device: Device, job: Job, now_ms: float) -> None:
        device.pool.ledger.admit(job)
        device.waiting[job.id] = job
        self._dispatch(device, now_ms)
        if job.id in device.waiting:
            self._at(job.expire_ms, self._expire, (device, job))

    def _dispatch(self, device: Device, now_ms: float) -> None:
        started = True
        while started:
            step = dispatch(device.pool, now_ms=now_ms, rules=self._rules)
            for job in step.shed:
                del device.waiting[job.id]
                self.record.ended(job.id, Outcome.SHED)
            started = step.run is not None
            if step.run is not None:
                self._start(device, step.run, now_ms)

    def _start(self, device: Device, run: Run, now_ms: float) -> None:
        requests = [job.id for job in run.jobs]
        spent = self.spent(device, run.arm.id, requests, now_ms)
        for request in requests:
            del device.waiting[request]
        running = Running(run, spent, now_ms + spent.run_ms)
        device.running[run.id] = running
        self._at(running.end_ms, self._finish, (device, running))

    def spent(self, device: Device, arm_id: str, requests: Sequence[int], now_ms: float) -> Spent:
        """What a run that starts now really takes."""
        column = device.places[arm_id]
        assert len(requests) <= device.kind.largest_batch(device.kind.arms[column].id)
        factor = 1.0 if device.slowdown is None else device.slowdown.at(now_ms)
        decode_ms = factor * sum(
            self.truth.decode_ms(device.kind, column, request) for request in requests
        )
        service_ms = factor * self.truth.service_ms(device.kind, column, requests)
        return Spent(decode_ms, service_ms, decode_ms + service_ms + device.kind.hop_ms)

    def ran(self, device: Device, run: Run) -> None:
        """Called when a run has ended and been learnt from."""

    def _finish(self, now_ms: float, what: tuple[Device, Running]) -> None:
        device, running = what
        run = running.run
        if device.running.get(run.id) is not running:
            return  # the device was taken out meanwhile
        if now_ms < running.end_ms:
            self._at(running.end_ms, self._finish, what)
            return
        del device.running[run.id]
        self.end_ms = now_ms
        pool = device.pool
        device.busy_ms += pool.ledger.finish(run.id, now_ms)
        self._dispatch(device, now_ms)
        learn(pool, run, running.spent, now_ms=now_ms)
        self.ran(device, run)
        for job, plan in zip(run.jobs, run.plans, strict=True):
            replied_ms = self._reply(device, now_ms)
            self.record.answered(job, plan, device, replied_ms, batch=len(run.jobs))

    def _reply(self, device: Device, now_ms: float) -> float:
        """When the reply to a request that ran until now is written."""
        loop = self._loops[device.index]
        replied_ms = loop.work(now_ms, loop.cost.reply_ms) + device.kind.reply_ms
        device.pool.predictor.observe_reply(replied_ms - now_ms)
        return replied_ms

    def _expire(self, now_ms: float, what: tuple[Device, Job]) -> None:
        device, job = what
        if device.waiting.pop(job.id, None) is None:
            return
        learn_expired(device.pool, job, now_ms=now_ms)
        device.pool.ledger.remove(job.id)
        self.record.ended(job.id, Outcome.EXPIRED)

    def _avoidable(self, group: Group, request: Request, now_ms: float) -> bool:
        return any(
            could_be_on_time(
                device,
                request.deadline_ms,
                now_ms,
                self._run_ms(device, request.id),
                partial(self._reserved_ms, device),
            )
            for device in group.devices
            if device.up
        )

    def _run_ms(self, device: Device, request: int) -> list[float]:
        columns = range(len(device.kind.arms))
        return [self.truth.run_ms(device.kind, column, request) for column in columns]

    def _reserved_ms(self, device: Device, job: Job) -> float:
        return self.truth.run_ms(device.kind, device.places[job.arm.id], job.id)

    def _plan_outages(self) -> None:
        for group in self.groups:
            for device in group.devices:
                for start_ms, end_ms in outages_of(
                    self._scenario.faults, device.index, horizon_ms=self._offered.horizon_ms
                ):
                    self._at(start_ms, self._take_out, (group, device))
                    self._at(end_ms, self._bring_back, (group, device))

    def _take_out(self, now_ms: float, what: tuple[Group, Device]) -> None:
        """Whatever the device held is planned again on those that are left."""
        group, device = what
        device.up = False
        group.refresh()
        lost = [job for running in device.running.values() for job in running.run.jobs]
        for run_id in device.running:
            device.busy_ms += device.pool.ledger.finish(run_id, now_ms)
        device.running.clear()
        for job_id in device.waiting:
            device.pool.ledger.remove(job_id)
        lost += device.waiting.values()
        device.waiting.clear()
        for job in lost:
            self._replan(group, job, now_ms)

    def _bring_back(self, now_ms: float, what: tuple[Group, Device]) -> None:
        del now_ms
        group, device = what
        device.up = True
        group.refresh()

    def _replan(self, group: Group, job: Job, now_ms: float) -> None:
        request = Request(job.id, job.picture, job.terms, job.arrived_ms)
        decision = self._decide(group, request, now_ms)
        if isinstance(decision, Refusal) or decision.expire_ms <= now_ms:
            self.record.ended(job.id, Outcome.SHED)
        else:
            self._queue(group.by_name[decision.arm.device], decision, now_ms)


def _down(group: Group) -> tuple[Arm, ...]:
    return tuple(arm for device in group.devices if not device.up for arm in device.pool.arms)
