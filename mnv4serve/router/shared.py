"""The ledger of a pool that others commit work to as well."""

from typing_extensions import override

from mnv4serve.router.schedule import Ledger

FRESH_MS = 1000.0
"""A report older than this says nothing about now."""


class SharedLedger(Ledger):
    """Own commitments known exactly, those of others by what the pool last reported.

    What others had committed is taken to be worked off since: the slots never idle while there is
    work, and a report that is too old counts for nothing.
    """

    def __init__(self, *, slots: int, max_queue: int) -> None:
        super().__init__(slots=slots, max_queue=max_queue)
        self._foreign_ms = 0.0
        self._heard_ms = 0.0

    def heard(self, committed_ms: float, *, now_ms: float) -> None:
        """Take note of the slot time that the pool says is promised, to anybody."""
        self._foreign_ms = max(0.0, committed_ms - self.committed_ms(now_ms))
        self._heard_ms = now_ms

    @override
    def wait_ms(self, now_ms: float, deadline_ms: float, tier: int = 0) -> float:
        return super().wait_ms(now_ms, deadline_ms, tier) + self._foreign_wait_ms(now_ms)

    def _foreign_wait_ms(self, now_ms: float) -> float:
        age_ms = now_ms - self._heard_ms
        if age_ms > FRESH_MS:
            return 0.0
        return max(0.0, self._foreign_ms / self.slots - age_ms)
