"""Expected latency of an arm for a picture, and the probability that it holds.

Learns from finished runs of one pool; knows no clock and measures nothing.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mnv4serve.domain import Arm, Picture, Timing
from mnv4serve.router.decode_cost import DecodeCost, Decoding
from mnv4serve.router.learning import Drift, Recent, RunningQuantile
from mnv4serve.router.prior import JITTER_MS, prior_ratios, worthwhile_batches

PATIENCE = 64
"""Refusals without a run in between after which what was learnt begins to fade."""
_TOLERANCE = 0.02


class Estimate(NamedTuple):
    """The expected latency of one arm for one picture, stage by stage.

    A tuple, like every value that a single decision makes dozens of.
    """

    wait_ms: float
    decode_ms: float
    service_ms: float
    hop_ms: float
    """From dispatch to the slot and back."""
    reply_ms: float
    away_ms: float = 0.0
    """The part of the hop for which the slot is free: the way to another process."""
    switch_ms: float = 0.0
    """The part of the service that brings the arm's weights to the device."""

    @property
    def slot_ms(self) -> float:
        """How long a slot is taken."""
        return self.decode_ms + self.service_ms + self.hop_ms - self.away_ms

    @property
    def run_ms(self) -> float:
        """From dispatch until the answer is ready to be handed over."""
        return self.decode_ms + self.service_ms + self.hop_ms

    @property
    def total_ms(self) -> float:
        """From arrival until the reply is written."""
        return self.wait_ms + self.decode_ms + self.service_ms + self.hop_ms + self.reply_ms

    def after(self, wait_ms: float) -> "Estimate":
        """The same run after another wait."""
        return self if wait_ms == self.wait_ms else Estimate(wait_ms, *self[1:])

    def settled(self) -> "Estimate":
        """The same run where the arm's weights are on the device already."""
        return self._replace(service_ms=self.service_ms - self.switch_ms, switch_ms=0.0)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run really took, from dispatch on."""

    decode_ms: float
    """All its pictures together."""
    service_ms: float
    run_ms: float
    """Until the answers were ready to be handed over."""


class Predictor:
    """Predicts the runs of one pool and learns from what really happened.

    Two ratios actual / expected are remembered apart: of runs (from dispatch on) and of waits.
    Before dispatch a request faces both, at dispatch only the first.
    """

    def __init__(
        self,
        *,
        timings: Mapping[str, Mapping[int, Timing]],
        decode: DecodeCost,
        reply_ms: float,
        hop_ms: float = 0.0,
        far: bool = False,
    ) -> None:
        self._service_ms = {
            arm_id: {batch: by_batch[batch].p50_ms for batch in sorted(by_batch)}
            for arm_id, by_batch in timings.items()
        }
        self._alone_ms = {arm_id: self._profiled_ms(arm_id, 1) for arm_id in timings}
        self.batch_sizes = worthwhile_batches(timings)
        """Larger than one, at which some arm was measured to take less time for each picture."""
        self._decoding = Decoding(decode)
        self._reply = RunningQuantile(reply_ms, share=0.9)
        self._hop = RunningQuantile(hop_ms, share=0.5)
        self._away = 1.0 if far else 0.0
        self._slowdown = Drift(gain=0.1)
        self._arm_drift = {arm_id: Drift(gain=0.02, leak=0.005) for arm_id in timings}
        self._switch_drift = Drift(gain=0.1)
        prior = prior_ratios(timings)
        self._runs = Recent(prior)
        self._waits = Recent(prior)
        self._refused_in_a_row = 0
        self._alone: tuple[Sequence[Arm], Picture, list[Estimate]] | None = None

    @property
    def slowdown(self) -> float:
        """How much slower the whole device is at the moment than when it was profiled."""
        return self._slowdown.factor

    @property
    def hop_ms(self) -> float:
        """What the way to the pool and back takes half of the runs at most."""
        return self._hop.value_ms

    @property
    def reply_ms(self) -> float:
        """What nine of ten replies take at most from the slot's end to the last byte written."""
        return self._reply.value_ms

    def expect(
        self,
        arm: Arm,
        picture: Picture,
        *,
        wait_ms: float,
        batch: int = 1,
        switch_ms: float = 0.0,
    ) -> Estimate:
        """The expected latency, corrected by everything learnt so far.

        `switch_ms`: what bringing the arm's weights takes as profiled, zero where they are there.
        """
        arm_id = arm.id
        slowdown = self._slowdown.factor
        decode_ms = self._decoding.expect_ms(picture, arm.resolution, slowdown=slowdown)
        profiled_ms = self._alone_ms[arm_id] if batch == 1 else self._profiled_ms(arm_id, batch)
        service_ms = profiled_ms * slowdown * self._arm_drift[arm_id].factor
        switch_ms *= self._switch_drift.factor
        service_ms += switch_ms
        hop_ms, reply_ms = self._hop.value_ms, self._reply.value_ms
        away_ms = self._away * hop_ms
        return Estimate(wait_ms, decode_ms, service_ms, hop_ms, reply_ms, away_ms, switch_ms)

    def alone(self, arms: Sequence[Arm], picture: Picture) -> Sequence[Estimate]:
        """What `expect` has of each arm without a wait; kept until something is learnt."""
        last = self._alone
        if last is None or last[0] is not arms or last[1] is not picture:
            last = self._alone = (arms, picture, self._expect_all(arms, picture))
        return last[2]

    def least_ms(self, arm: Arm, picture: Picture) -> float:
        """Slot time for the picture alone, or its part of a batch where that is less."""
        parts_ms = []
        for size in (1, *self.batch_sizes):
            run = self.expect(arm, picture, wait_ms=0.0, batch=size)
            parts_ms.append(run.decode_ms + (run.slot_ms - run.decode_ms) / size)
        return min(parts_ms)

    def on_time_probability(self, estimate: Estimate, remaining_ms: float) -> float:
        """The share of comparable runs that would be answered within the remaining time."""
        left_ms = remaining_ms - estimate.reply_ms + JITTER_MS
        run_ms = estimate.run_ms + JITTER_MS
        if estimate.wait_ms <= 0.0:
            return self._runs.share_up_to(left_ms / run_ms)
        wait_ms = (estimate.wait_ms + JITTER_MS) / run_ms
        return self._runs.share_after(self._waits, wait_ms, (left_ms + JITTER_MS) / run_ms)

    def squeezed_probability(self, estimate: Estimate, remaining_ms: float) -> float:
        """The same where the wait is that of runs like this one, each as long as it takes.

        Nothing is left to chance but how long runs take: the wait is no longer a guess of what
        others will choose. Of several runs in a row the ratio of the sum scatters less than that
        of one, as their square root.
        """
        run_ms = estimate.run_ms + JITTER_MS
        whole_ms = estimate.wait_ms + run_ms
        over = (remaining_ms - estimate.reply_ms + JITTER_MS) / whole_ms - 1.0
        ahead = max(1.0, estimate.wait_ms / estimate.run_ms)
        scatter_ms = math.sqrt(run_ms * run_ms + estimate.wait_ms * estimate.wait_ms / ahead)
        return self._runs.share_up_to(1.0 + over * whole_ms / scatter_ms)

    def required_ms(self, estimate: Estimate, target: float) -> float:
        """The smallest remaining time that reaches the target; behind a wait, to two percent."""
        base_ms = self._run_within_ms(estimate, target) + estimate.reply_ms
        if estimate.wait_ms <= 0.0:
            return base_ms
        (_, longest), *_, (_, shortest) = self._waits.points()
        wait_ms = estimate.wait_ms + JITTER_MS
        too_small = base_ms + wait_ms * shortest - JITTER_MS
        enough = base_ms + wait_ms * longest - JITTER_MS
        while enough - too_small > _TOLERANCE * enough:
            middle = 0.5 * (too_small + enough)
            if self.on_time_probability(estimate, middle) >= target:
                enough = middle
            else:
                too_small = middle
        return enough

    def margin_ms(self, estimate: Estimate, target: float) -> float:
        """What to keep free beyond the slot's expected time so that a run hits the target."""
        run_ms = self._run_within_ms(estimate, target)
        return run_ms + estimate.reply_ms - estimate.slot_ms

    def observe(
        self, arm: Arm, pictures: Sequence[Picture], expected: Estimate, actual: Spent
    ) -> None:
        """Learn from a run that finished; `expected` as decided at dispatch."""
        self._refused_in_a_row = 0
        self._alone = None
        if expected.switch_ms:
            self._observe_switch(expected, actual.service_ms)
        else:
            self._observe_service(arm.id, len(pictures), actual.service_ms)
        self._decoding.observe(pictures, arm.resolution, actual.decode_ms, slowdown=self.slowdown)
        self._hop.follow(max(0.0, actual.run_ms - actual.decode_ms - actual.service_ms))
        self._runs.add((actual.run_ms + JITTER_MS) / (expected.run_ms + JITTER_MS))

    def observe_wait(self, *, expected_ms: float, actual_ms: float) -> None:
        """Learn how long a job really waited that was expected to wait.

        A job that gave up waiting counts only once it had waited longer than expected: until then
        it says nothing, afterwards leaving it out would make the predictor optimistic just when
        the pool is overloaded.
        """
        if expected_ms > 0.0:
            self._waits.add((actual_ms + JITTER_MS) / (expected_ms + JITTER_MS))

    def observe_reply(self, reply_ms: float) -> None:
        """Learn what loop and transport took from a slot's end to a written reply."""
        self._reply.follow(reply_ms)
        self._alone = None

    def refused(self) -> None:
        """Trust what was learnt a little less once many requests in a row were refused.

        To be called for every request that was refused for its budget. Refusals bring no
        observation, and without this one bad spell could make the pool refuse for ever; as long as
        runs come in between, they are believed instead.
        """
        self._refused_in_a_row += 1
        if self._refused_in_a_row <= PATIENCE:
            return
        self._decoding.fade(0.01)
        for drift in (self._slowdown, self._switch_drift, *self._arm_drift.values()):
            drift.fade(0.01)
        self._alone = None
        self._runs.forget()
        self._waits.forget()

    def _observe_service(self, arm_id: str, batch: int, actual_ms: float) -> None:
        drift = self._arm_drift[arm_id]
        ratio = actual_ms / self._profiled_ms(arm_id, batch)
        self._slowdown.follow(ratio / drift.factor)
        drift.follow(ratio / self._slowdown.factor)

    def _observe_switch(self, expected: Estimate, actual_ms: float) -> None:
        """Such a run says nothing of the device's speed: bringing weights may be most of it."""
        profiled_ms = expected.switch_ms / self._switch_drift.factor
        taken_ms = actual_ms - expected.settled().service_ms
        self._switch_drift.follow(taken_ms / profiled_ms)

    def _run_within_ms(self, estimate: Estimate, target: float) -> float:
        """A little more than the target's quantile, so that rounding cannot fall short of it."""
        ratio = self._runs.quantile(min(1.0, target + 1e-9))
        return (estimate.run_ms + JITTER_MS) * ratio - JITTER_MS + 1e-6

    def _expect_all(self, arms: Sequence[Arm], picture: Picture) -> list[Estimate]:
        """One `expect` for each, where what they share is looked up once."""
        alone_ms, drift, slowdown = self._alone_ms, self._arm_drift, self._slowdown.factor
        decode_ms = {
            resolution: self._decoding.expect_ms(picture, resolution, slowdown=slowdown)
            for resolution in {arm.resolution for arm in arms}
        }
        hop_ms = self._hop.value_ms
        shared = (hop_ms, self._reply.value_ms, self._away * hop_ms)
        return [
            Estimate(
                0.0,
                decode_ms[arm.resolution],
                alone_ms[arm.id] * slowdown * drift[arm.id].factor,
                *shared,
            )
            for arm in arms
        ]

    def _profiled_ms(self, arm_id: str, batch: int) -> float:
        by_batch = self._service_ms[arm_id]
        if batch in by_batch:
            return by_batch[batch]
        sizes = list(by_batch)
        above = min(bisect_left(sizes, batch), len(sizes) - 1)
        if batch > sizes[above]:
            return by_batch[sizes[above]] * batch / sizes[above]
        return by_batch[sizes[above]]
