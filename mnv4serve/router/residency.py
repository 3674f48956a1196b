"""Whose weights are on a device that holds those of one arm at a time, and what others cost."""

from collections.abc import Iterable, Iterator, Mapping

from mnv4serve.router.jobs import Job


class Residency:
    """The arm that a device started last; another one has to bring its weights first."""

    __slots__ = ("_switching_ms", "resident")

    def __init__(self, switching_ms: Mapping[str, float]) -> None:
        self.resident = ""
        """Its id; empty where nothing is known to be there."""
        self._switching_ms = switching_ms

    def switch_ms(self, arm_id: str, *, after: str | None = None) -> float:
        """What an arm's first picture costs on top, after another arm or what is there now."""
        before = self.resident if after is None else after
        return 0.0 if arm_id == before else self._switching_ms.get(arm_id, 0.0)

    def durations_ms(self, jobs: Iterable[Job]) -> Iterator[float]:
        """How long jobs take a slot one after the other, each on the arm reserved for it."""
        before = self.resident
        for job in jobs:
            yield job.expected_ms + self.switch_ms(job.arm.id, after=before)
            before = job.arm.id


def residency_of(switching_ms: Mapping[str, float]) -> Residency | None:
    """None where no arm costs anything to switch to, which every decision is spared then."""
    return Residency(switching_ms) if any(switching_ms.values()) else None
