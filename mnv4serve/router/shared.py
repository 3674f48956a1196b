"""The ledger of a pool that has several replicas, and to which others commit work as well."""

from hashlib import blake2b
from heapq import heappush

from typing_extensions import override

from mnv4serve.router.residency import Residency
from mnv4serve.router.schedule import Ledger

FRESH_MS = 1000.0
"""A report older than this says nothing about how busy a replica is now."""
FORGOTTEN_MS = 10_000.0
"""A replica that has not been heard of for so long is taken to be gone."""


class SharedLedger(Ledger):
    """Own commitments known exactly, those of others by what the replicas last reported.

    What others had committed is taken to be worked off since: the slots never idle while there is
    work. A replica counts from its first report until it has been silent for long.
    """

    def __init__(
        self,
        *,
        slots: int,
        max_queue: int,
        residency: Residency | None = None,
        salt: int = 0,
    ) -> None:
        """`salt` is to be no other ledger's: it makes the lots of this one."""
        super().__init__(slots=slots, max_queue=max_queue, residency=residency)
        self._salt = salt
        self._slots_each = slots
        self._committed_ms: dict[str, float] = {}
        self._heard_ms: dict[str, float] = {}
        self._foreign_ms = 0.0
        self._news_ms = 0.0

    def heard(self, replica: str, committed_ms: float, *, now_ms: float) -> None:
        """Take note of the slot time that a replica says is promised, to anybody."""
        self._committed_ms[replica] = committed_ms
        self._heard_ms[replica] = self._news_ms = now_ms
        for gone in [one for one, at in self._heard_ms.items() if now_ms - at > FORGOTTEN_MS]:
            del self._heard_ms[gone], self._committed_ms[gone]
        self._resize(self._slots_each * len(self._heard_ms))
        fresh = (
            max(0.0, self._committed_ms[one] - (now_ms - at) * self._slots_each)
            for one, at in self._heard_ms.items()
            if now_ms - at <= FRESH_MS
        )
        self._foreign_ms = max(0.0, sum(fresh) - self.committed_ms(now_ms))

    @override
    def wait_ms(self, now_ms: float, deadline_ms: float, tier: int = 0) -> float:
        return super().wait_ms(now_ms, deadline_ms, tier) + self._foreign_wait_ms(now_ms)

    @override
    def lot(self, request_id: int) -> int:
        return int.from_bytes(blake2b(b"%d %d" % (self._salt, request_id), digest_size=8).digest())

    @override
    def finish(self, run_id: int, now_ms: float) -> float:
        taken_ms = super().finish(run_id, now_ms)
        self._drop_idle(len(self.running) + self.idle_slots - self.slots)
        return taken_ms

    def _foreign_wait_ms(self, now_ms: float) -> float:
        age_ms = now_ms - self._news_ms
        if age_ms > FRESH_MS:
            return 0.0
        return max(0.0, self._foreign_ms / self.slots - age_ms)

    def _resize(self, slots: int) -> None:
        """Slots that are busy while there are too many go when they become idle."""
        used = {run.slot for run in self.running} | set(self._idle)
        number = 0
        while len(used) < slots:
            if number not in used:
                used.add(number)
                heappush(self._idle, number)
            number += 1
        self.slots = slots
        self._drop_idle(len(used) - slots)

    def _drop_idle(self, surplus: int) -> None:
        for _ in range(min(surplus, len(self._idle))):
            self._idle.remove(max(self._idle))
