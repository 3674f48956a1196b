"""A pool: one device with its queue, its slots and the backends that run there.

The event loop admits jobs, the slots' threads take the next one as soon as they have finished
one; `lock` guards what both touch and is held for microseconds.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from threading import Lock

from mnv4serve.backends import Backend, Thermometer
from mnv4serve.domain import Arm, Picture
from mnv4serve.errors import Busy, DeviceLost, Draining, Expired, Shed
from mnv4serve.router import planner
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Run
from mnv4serve.router.planner import Rules, dispatch, learn, learn_expired
from mnv4serve.serving.results import Lost, Ran, result_of, settle
from mnv4serve.serving.slot import MS_PER_S, Decode, Finished, Slot, Work, now_ms

logger = logging.getLogger(__name__)

STUCK_MS = 1000.0
STUCK_FACTOR = 20.0
"""A run that takes longer than both, the second times what was expected, is taken to hang."""
WATCH_S = 0.25
"""How often it is looked for one."""


@dataclass(frozen=True, slots=True)
class Resident:
    """An arm that is loaded and warm."""

    arm: Arm
    backend: Backend


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
        routing: planner.Pool,
        *,
        residents: Sequence[Resident],
        rules: Rules,
        lock: Lock,
        stuck_ms: float = STUCK_MS,
        cores: Sequence[Collection[int]] = (),
    ) -> None:
        self.routing = routing
        self.up = True
        self.thermometer: Thermometer | None = None
        self.lost = ""
        """Why the device is gone until the process is started anew; empty while it is not."""
        self._backends = {resident.arm.id: resident.backend for resident in residents}
        self._rules = rules
        self._lock = lock
        self._stuck_ms = stuck_ms
        self._cores = cores
        self._stuck: set[int] = set()
        """Runs whose requests were given up."""
        self._entries: dict[int, _Entry] = {}
        self._runs: dict[int, Run] = {}
        self._closing = False
        self._slots: list[Slot] = []

    @property
    def backends(self) -> Mapping[str, Backend]:
        """By arm id: what is loaded and warm."""
        return self._backends

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self._entries

    def start(self, decode: Decode) -> None:
        """Start the slots' threads; only on the running event loop."""
        self._loop = asyncio.get_running_loop()
        slots = self.routing.ledger.slots
        self._slots = [
            Slot(index, decode=decode, report=self._finish, cores=cores)
            for index, cores in zip(range(slots), self._cores or [()] * slots, strict=True)
        ]
        self._watch()

    def close(self) -> None:
        """Stop the slots after what they are executing, give up what waits, free the backends."""
        with self._lock:
            self._closing = True
        ended = [slot.stop() for slot in self._slots]
        for entry in self._entries.values():
            settle(entry.done, Draining("the service is shutting down"))
        if all(ended):  # a backend must not be freed under a run that hangs in it
            for backend in self._backends.values():
                backend.close()

    async def run(self, job: Job, image: bytes) -> Ran:
        """Queue an admitted job and wait for its result.

        Raises Expired once its time has run out, Lost where the device does not answer. When the
        caller is cancelled the job leaves the queue, or its result is dropped where it is running
        already.
        """
        if not self.up:
            raise Lost("the device does not answer")
        entry = _Entry(job, image, self._loop.create_future())
        with self._lock:
            if not self.routing.ledger.admit(job):  # another thread took the last place
                raise Busy("the queue is full", smallest_feasible_budget_ms=inf, retry_after_ms=1.0)
            self._entries[job.id] = entry
            self._dispatch()
        left_s = (job.expire_ms - now_ms()) / MS_PER_S
        timer = self._loop.call_later(left_s, self._expire, entry)
        try:
            return await entry.done
        finally:
            timer.cancel()
            if entry.run is None:
                self._withdraw(job)

    def refused(self, _picture: Picture) -> None:
        """A request was refused that this pool might have taken; the lock is held."""
        self.routing.predictor.refused()

    def _withdraw(self, job: Job) -> None:
        with self._lock:
            if self.routing.ledger.remove(job.id):
                self._entries.pop(job.id, None)

    def _expire(self, entry: _Entry) -> None:
        if entry.done.done():
            return
        with self._lock:
            if entry.run is None:
                learn_expired(self.routing, entry.job, now_ms=now_ms())
        budget_ms = entry.job.terms.budget_ms
        entry.done.set_exception(Expired(f"no answer in time for a budget of {budget_ms:g} ms"))

    def _watch(self) -> None:
        """Give up runs that hang; with a run hanging on every slot the pool is down."""
        if self._closing:
            return
        with self._lock:
            now = now_ms()
            for running in self.routing.ledger.running:
                patience_ms = max(self._stuck_ms, STUCK_FACTOR * running.expected_ms)
                if now - running.started_ms > patience_ms and running.run_id in self._runs:
                    self._lose(self._runs.pop(running.run_id).jobs)
                    self._stuck.add(running.run_id)
            if self.up and len(self._stuck) == self.routing.ledger.slots:
                self.up = False
                logger.error("device_stuck", extra={"device": self.routing.device})
                self._lose([entry.job for entry in self._entries.values()])
        self._loop.call_later(min(WATCH_S, self._stuck_ms / MS_PER_S), self._watch)

    def _lose(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.routing.ledger.remove(job.id)
            entry = self._entries.pop(job.id)
            self._report(entry, Lost("the device does not answer"))

    def _dispatch(self) -> None:
        """Give every idle slot its next run; the lock is held."""
        while not (self._closing or self.lost):
            step = dispatch(self.routing, now_ms=now_ms(), rules=self._rules)
            for job in step.shed:
                self._give_up(job)
            if step.run is None:
                return
            self._start(step.run)

    def _start(self, run: Run) -> None:
        entries = [self._entries[job.id] for job in run.jobs]
        for entry in entries:
            entry.run = run
        self._runs[run.id] = run
        pictures = tuple((entry.image, entry.job.picture) for entry in entries)
        work = Work(run.id, pictures, run.arm, self._backends[run.arm.id])
        self._slots[run.slot].submit(work)

    def _give_up(self, job: Job) -> None:
        budget_ms = job.terms.budget_ms
        error = Shed(f"given up under overload: {budget_ms:g} ms cannot be met any more")
        self._report(self._entries.pop(job.id), error)

    def _report(self, entry: _Entry, outcome: Ran | Exception) -> None:
        """May be called on any thread."""
        self._call_on_loop(settle, entry.done, outcome)

    def _call_on_loop(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *arguments)

    def _finish(self, finished: Finished) -> None:
        """Called on the slot's thread, which goes on to its next run at once."""
        now = now_ms()
        with self._lock:
            run = self._runs.pop(finished.run_id, None)
            if run is None:
                self._recover(finished.run_id)
                return
            entries = [self._entries.pop(job.id) for job in run.jobs]
            self._notice(finished.results)
            self.routing.ledger.finish(run.id, now)
            outcomes = self._outcomes(run, finished, now)
        self._call_on_loop(self._settle_all, entries, outcomes, (run, finished, now))

    def _notice(self, results: Sequence[object]) -> None:
        """Whether a device has failed for good: nothing more is run on it, what waits goes on."""
        lost = next((str(result) for result in results if isinstance(result, DeviceLost)), "")
        if not lost or self.lost:
            return
        self.up, self.lost = False, lost
        logger.error("device_lost", extra={"device": self.routing.device, "reason": lost})
        self._lose([entry.job for entry in self._entries.values() if entry.run is None])

    def _recover(self, run_id: int) -> None:
        """A run has ended after all that nobody waits for any more."""
        self._stuck.discard(run_id)
        self.routing.ledger.finish(run_id, now_ms())
        if not (self.up or self.lost):
            self.up = True
            logger.warning("device_answers_again", extra={"device": self.routing.device})
        self._dispatch()

    def _outcomes(self, run: Run, finished: Finished, now: float) -> list[Ran | Exception]:
        """What becomes of the run's jobs; a defect of ours ends them, not the slot."""
        try:
            self._dispatch()
            return [result_of(run, number, finished, now) for number in range(len(run.jobs))]
        except Exception as defect:
            logger.exception("slot_report_failed")
            return [defect for _ in run.jobs]

    def _settle_all(
        self,
        entries: Sequence[_Entry],
        outcomes: Sequence[Ran | Exception],
        lesson: tuple[Run, Finished, float],
    ) -> None:
        """Answer first, learn afterwards: nobody should wait for what later requests will know."""
        for entry, outcome in zip(entries, outcomes, strict=True):
            settle(entry.done, outcome)
        # The next turn of the loop writes the replies, the one after that learns.
        self._loop.call_soon(self._loop.call_soon, self._learn, *lesson)

    def _learn(self, run: Run, finished: Finished, now: float) -> None:
        """From runs that did all that was expected of them."""
        if any(isinstance(result, Exception) for result in finished.results):
            return
        started_ms = run.jobs[0].arrived_ms + run.plans[0].wait_ms
        spent = Spent(finished.decode_ms, finished.service_ms, now - started_ms)
        try:
            with self._lock:
                learn(self.routing, run, spent, now_ms=now)
        except Exception:
            logger.exception("learning_failed")  # a defect of ours; the answer has been given
