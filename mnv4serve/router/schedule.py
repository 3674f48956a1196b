"""A pool's queue and its ledger of committed work, as a data structure without a clock."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush, heapreplace

from mnv4serve.router.jobs import Job
from mnv4serve.router.residency import Residency

OVERRUN_SHARE = 0.1
"""A job is taken to need at least this share of the time it has been running already: one that
overruns is expected to overrun further, in proportion, and never to be done at once."""
DEGRADED_SHARE = 0.75
"""Degraded jobs may fill the queue up to here, so that on-time work still finds room."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a slot is executing."""

    run_id: int
    slot: int
    started_ms: float
    expected_ms: float

    def remaining_ms(self, now_ms: float) -> float:
        """Expected time to its end; positive even when it should have ended already."""
        elapsed_ms = now_ms - self.started_ms
        return max(self.expected_ms - elapsed_ms, OVERRUN_SHARE * elapsed_ms, 0.0)


_Entry = tuple[float, int, Job]
"""Deadline, order of admission, job."""


class Ledger:
    """Slots and a bounded queue: earliest deadline first, degraded work after all other."""

    def __init__(self, *, slots: int, max_queue: int, residency: Residency | None = None) -> None:
        self.slots = slots
        self.max_queue = max_queue
        self.residency = residency
        """None where arms do not displace each other."""
        self._queues: tuple[list[_Entry], list[_Entry]] = ([], [])
        self._waiting: dict[int, _Entry] = {}
        self._running: dict[int, Running] = {}
        self._idle = list(range(slots))
        self._sequence = 0
        self._growth = [math.sqrt(1.0 + ahead / slots) - 1.0 for ahead in range(max_queue + 2)]
        """Of the scatter of a job with so many ahead of it: chance adds up as the root of runs."""

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def waiting(self, tier: int) -> int:
        """Jobs of one tier that wait."""
        return len(self._queues[tier])

    @property
    def running(self) -> tuple[Running, ...]:
        return tuple(self._running.values())

    @property
    def idle_slots(self) -> int:
        return len(self._idle)

    def lot(self, _request_id: int) -> int | None:
        """A draw for a request; None where the work of this ledger is all that there is."""
        return None

    @property
    def full(self) -> bool:
        """Whether not even work that would be on time finds room."""
        return not self.has_room(0)

    def has_room(self, tier: int) -> bool:
        """Whether the queue takes one more job of this tier."""
        if self.depth >= self.max_queue:
            return False
        return tier == 0 or len(self._queues[1]) < max(1, int(DEGRADED_SHARE * self.max_queue))

    def admit(self, job: Job) -> bool:
        """Queue a job; False, and nothing changed, where the queue has no room for it."""
        if not self.has_room(job.tier):
            return False
        self._insert(job)
        return True

    def demote(self, job_id: int) -> None:
        """Put a waiting job that cannot be on time any more behind all that can."""
        job = self._take(job_id)
        if job is not None:
            self._insert(replace(job, tier=1))

    def ready(self, now_ms: float) -> list[Job]:
        """The waiting jobs that are worth running, in their order; expired ones stay behind.

        Jobs past their deadline give way to all that can still be on time.
        """
        self._demote_late(now_ms)
        return [job for queue in self._queues for _, _, job in queue if job.expire_ms > now_ms]

    def remove(self, job_id: int) -> bool:
        """Take a waiting job out, for example because its caller went away."""
        return self._take(job_id) is not None

    def start(self, run_id: int, now_ms: float, *, expected_ms: float, arm_id: str = "") -> int:
        """Occupy an idle slot; the slot's number."""
        if self.residency is not None:
            self.residency.resident = arm_id
        slot = heappop(self._idle)
        self._running[run_id] = Running(run_id, slot, now_ms, expected_ms)
        return slot

    def finish(self, run_id: int, now_ms: float) -> float:
        """Free the slot of a run; how long it was taken."""
        run = self._running.pop(run_id)
        heappush(self._idle, run.slot)
        return now_ms - run.started_ms

    def committed_ms(self, now_ms: float) -> float:
        """Slot time that is promised already: what runs and all that waits."""
        running = sum(run.remaining_ms(now_ms) for run in self._running.values())
        return running + sum(self._durations_ms([*self._queues[0], *self._queues[1]]))

    def wait_ms(self, now_ms: float, deadline_ms: float, tier: int = 0) -> float:
        """Expected time until a slot would start one more job with this deadline and tier."""
        return _schedule(self._free(now_ms), self._durations_ms(self._ahead(deadline_ms, tier)))

    def switch_ms(self, arm_id: str, deadline_ms: float, tier: int = 0) -> float:
        """What an arm costs on top behind all work that goes before a job with this deadline."""
        if self.residency is None:
            return 0.0
        ahead = self._ahead(deadline_ms, tier)
        return self.residency.switch_ms(arm_id, after=ahead[-1][2].arm.id if ahead else None)

    def squeezed_wait_ms(self, now_ms: float, deadline_ms: float) -> float:
        """The wait of one more job with this deadline if all work took its fastest arms."""
        free, _ = self._squeezed(now_ms, deadline_ms)
        return free[0]

    def harms(self, now_ms: float, deadline_ms: float, least_ms: float) -> bool:
        """Whether one more job, taking a slot for its least time, would make any other one late.

        One that is not late without it, everything taking its fastest arm.
        """
        without, place = self._squeezed(now_ms, deadline_ms)
        beside = without.copy()
        heapreplace(beside, without[0] + least_ms)
        behind = zip(self._queues[0][place:], self._growth[place + 1 :], strict=False)
        for (due_ms, _, job), growth in behind:
            needs_ms = job.least_ms
            latest_ms = due_ms - now_ms - job.margin_ms - job.scatter_ms * growth - needs_ms
            if without[0] <= latest_ms < beside[0]:
                return True
            heapreplace(without, without[0] + needs_ms)
            heapreplace(beside, beside[0] + needs_ms)
        return False

    def spare_ms(self, now_ms: float, least_ms: float, *, without: Collection[int]) -> float:
        """How much longer than the least a run may take that starts now and harm no one.

        Nobody is harmed when each waiting job that would be on time with its fastest arm stays so;
        infinite where there is none. Needs an idle slot; `without` are the ids of the run's jobs,
        which still wait.
        """
        free = self._free(now_ms)
        heapreplace(free, least_ms)
        spare_ms = math.inf
        for (due_ms, _, job), growth in zip(self._queues[0], self._growth, strict=False):
            if job.id in without:
                continue
            end_ms = free[0] + job.least_ms
            heapreplace(free, end_ms)
            slack_ms = due_ms - now_ms - job.margin_ms - job.scatter_ms * growth - end_ms
            if 0.0 <= slack_ms < spare_ms:
                spare_ms = slack_ms
        return spare_ms

    def last_deadline_ms(self) -> float:
        """Of the waiting jobs that are likely on time; minus infinity where none waits."""
        return self._queues[0][-1][0] if self._queues[0] else -math.inf

    def _squeezed(self, now_ms: float, deadline_ms: float) -> tuple[list[float], int]:
        """When slots are free behind all that is due until then, and the next place."""
        free = self._free(now_ms)
        place = bisect_right(self._queues[0], deadline_ms, key=_deadline)
        for _, _, job in self._queues[0][:place]:
            heapreplace(free, free[0] + job.least_ms)
        return free, place

    def _ahead(self, deadline_ms: float, tier: int) -> list[_Entry]:
        """What is started before one more job with this deadline and tier, in order."""
        first, last = self._queues
        if tier == 0:
            return first[: bisect_right(first, deadline_ms, key=_deadline)]
        return [*first, *last[: bisect_right(last, deadline_ms, key=_deadline)]]

    def _durations_ms(self, entries: Sequence[_Entry]) -> Iterable[float]:
        if self.residency is None:
            return [job.expected_ms for _, _, job in entries]
        return self.residency.durations_ms(job for _, _, job in entries)

    def _free(self, now_ms: float) -> list[float]:
        free = [run.remaining_ms(now_ms) for run in self._running.values()]
        free += [0.0] * len(self._idle)
        heapify(free)
        return free

    def _insert(self, job: Job) -> None:
        self._sequence += 1
        entry = (job.deadline_ms, self._sequence, job)
        insort(self._queues[job.tier], entry, key=_place)
        self._waiting[job.id] = entry

    def _take(self, job_id: int) -> Job | None:
        entry = self._waiting.pop(job_id, None)
        if entry is None:
            return None
        queue = self._queues[entry[2].tier]
        del queue[bisect_left(queue, _place(entry), key=_place)]
        return entry[2]

    def _demote_late(self, now_ms: float) -> None:
        while self._queues[0] and self._queues[0][0][0] <= now_ms:
            job = self._queues[0][0][2]
            self._take(job.id)
            self._insert(replace(job, tier=1))


def _schedule(free: list[float], durations_ms: Iterable[float]) -> float:
    """Place jobs in order on whichever slot is free first; when the next one could start."""
    for duration_ms in durations_ms:
        heapreplace(free, free[0] + duration_ms)
    return free[0]


def _deadline(entry: _Entry) -> float:
    return entry[0]


def _place(entry: _Entry) -> tuple[float, int]:
    return entry[:2]
