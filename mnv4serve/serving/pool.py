"""A pool: one device with its queue, its slots and the backends that run there.

All of it but the slots' threads lives on the event loop, so nothing here needs a lock.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Backend
from mnv4serve.domain import Arm, Plan, Stages
from mnv4serve.errors import Expired
from mnv4serve.router import planner
from mnv4serve.router.planner import Rules, Run, dispatch, learn, learn_expired
from mnv4serve.router.predict import Predictor
from mnv4serve.router.schedule import Job, Ledger
from mnv4serve.serving.slot import MS_PER_S, Decode, Finished, Slot, Work, now_ms


@dataclass(frozen=True, slots=True)
class Resident:
    """An arm that is loaded and warm."""

    arm: Arm
    backend: Backend


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a job that went through a slot."""

    plan: Plan
    """As decided at dispatch."""
    stages: Stages
    """`total_ms` until the result was back on the event loop."""
    logits: NDArray[np.float32]


@dataclass(slots=True)
class _Entry:
    """A job between admission and result."""

    job: Job
    image: bytes
    done: asyncio.Future[Ran]
    run: Run | None = None


class Pool:
    """One queue, one ledger of committed work, one set of slots, one owner of the device."""

    def __init__(
        self,
        *,
        device: str,
        residents: Sequence[Resident],
        ledger: Ledger,
        predictor: Predictor,
        rules: Rules,
    ) -> None:
        arms = tuple(resident.arm for resident in residents)
        self.routing = planner.Pool(device, arms, predictor, ledger)
        self._backends = {resident.arm.id: resident.backend for resident in residents}
        self._rules = rules
        self._entries: dict[int, _Entry] = {}
        self._slots: list[Slot] = []

    def start(self, decode: Decode) -> None:
        """Start the slots' threads; only on the running event loop."""
        loop = asyncio.get_running_loop()
        self._slots = [
            Slot(index, decode=decode, loop=loop, report=self._finish)
            for index in range(self.routing.ledger.slots)
        ]

    def close(self) -> None:
        """Stop the slots after what they are executing, then free the backends."""
        for slot in self._slots:
            slot.stop()
        for backend in self._backends.values():
            backend.close()

    async def run(self, job: Job, image: bytes) -> Ran:
        """Queue an admitted job and wait for its result.

        Raises Expired once its time has run out. When the caller is cancelled the job leaves the
        queue, or its result is dropped where it is running already.
        """
        loop = asyncio.get_running_loop()
        entry = _Entry(job, image, loop.create_future())
        self._entries[job.id] = entry
        self.routing.ledger.admit(job)
        self._dispatch()
        left_s = (job.expire_ms - now_ms()) / MS_PER_S
        timer = loop.call_later(left_s, self._expire, entry)
        try:
            return await entry.done
        finally:
            timer.cancel()
            if entry.run is None and self._entries.pop(job.id, None) is not None:
                self.routing.ledger.remove(job.id)

    def _expire(self, entry: _Entry) -> None:
        if entry.done.done():
            return
        if entry.run is None:
            learn_expired(self.routing, entry.job, now_ms=now_ms())
        budget_ms = entry.job.terms.budget_ms
        entry.done.set_exception(Expired(f"no answer in time for a budget of {budget_ms:g} ms"))

    def _dispatch(self) -> None:
        while (run := dispatch(self.routing, now_ms=now_ms(), rules=self._rules)) is not None:
            entry = self._entries[run.job.id]
            entry.run = run
            arm = run.plan.arm
            backend = self._backends[arm.id]
            work = Work(run.job.id, entry.image, run.job.picture, arm.resolution, backend)
            self._slots[run.slot].submit(work)

    def _finish(self, finished: Finished) -> None:
        now = now_ms()
        self.routing.ledger.finish(finished.job_id, now)
        self._dispatch()
        entry = self._entries.pop(finished.job_id)
        run = entry.run
        assert run is not None
        if finished.logits is None:
            if not entry.done.done():
                entry.done.set_exception(finished.error or RuntimeError("a slot gave no result"))
            return
        stages = Stages(
            wait_ms=run.plan.wait_ms,
            decode_ms=finished.decode_ms,
            service_ms=finished.service_ms,
            total_ms=now - entry.job.arrived_ms,
        )
        learn(self.routing, run, stages)
        if not entry.done.done():
            entry.done.set_result(Ran(run.plan, stages, finished.logits))
