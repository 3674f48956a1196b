"""What runs really take: noise that depends on request and arm alone, not on who asks when."""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mnv4serve.domain import Arm, Timing
from mnv4serve.simulate.hardware import Kind
from mnv4serve.simulate.scenario import Offered, Scenario, Stream

Floats = NDArray[np.float64]

BLOCK = 4096
"""Requests whose noise is drawn together."""
KEPT_BLOCKS = 32
DECODE_SPREAD = 0.08
"""Log-normal spread of decoding, which profiles do not tell."""
Z90, Z99 = 1.2815515655446004, 2.3263478740408408
"""Where a normal distribution has its 90th and 99th percentile."""
Z_LARGEST = 4.0


class Noise:
    """Factors on run times: one column an arm and a last one for decoding.

    Their medians are 1; above it they follow the profile's p90 and p99 and are log-normal in
    between and beyond, below it they mirror the way to the p90.
    """

    def __init__(self, scenario: Scenario, timings: Sequence[Timing]) -> None:
        self._scenario = scenario
        near, far = [], []
        for timing in timings:
            to_p90, beyond = _slopes(timing, scenario.noise)
            near.append(to_p90)
            far.append(beyond)
        decode = DECODE_SPREAD if scenario.noise is None else scenario.noise
        self._near = np.array([*near, decode])
        self._far = np.array([*far, decode])
        self._blocks: dict[int, list[list[float]]] = {}

    def of(self, request: int) -> list[float]:
        """The factors of one request, by column."""
        number, row = divmod(request, BLOCK)
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = self.block(number).tolist()
            if len(self._blocks) > KEPT_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
        return block[row]

    def block(self, number: int) -> Floats:
        """The factors of one block of requests, [request, column]."""
        rng = self._scenario.rng(Stream.NOISE, number)
        z = rng.standard_normal((BLOCK, len(self._near)))
        np.clip(z, -Z_LARGEST, Z_LARGEST, out=z)
        logs = self._near * np.minimum(z, Z90) + self._far * np.maximum(z - Z90, 0.0)
        factors: Floats = np.exp(logs)
        return factors

    def rows(self, first: int, last: int) -> Floats:
        """The factors of requests `first` up to but not including `last`, [request, column]."""
        numbers = range(first // BLOCK, (last - 1) // BLOCK + 1)
        rows = np.concatenate([self.block(number) for number in numbers])
        return rows[first - numbers[0] * BLOCK : last - numbers[0] * BLOCK]


class Truth:
    """Durations of runs on devices of one scenario, before faults."""

    def __init__(self, scenario: Scenario, offered: Offered) -> None:
        self.kinds = tuple({id(kind): kind for kind in scenario.cluster.devices}.values())
        self._scenario = scenario
        self._pictures = offered.pictures
        self.first_column: dict[int, int] = {}
        timings: list[Timing] = []
        for kind in self.kinds:
            self.first_column[id(kind)] = len(timings)
            timings += [kind.timings[arm.id][min(kind.timings[arm.id])] for arm in kind.arms]
        self.arms: tuple[Arm, ...] = tuple(arm for kind in self.kinds for arm in kind.arms)
        """By column."""
        self.noise = Noise(scenario, timings)
        self._picture_of = offered.pictures.tolist()

    def decode_ms(self, kind: Kind, column: int, request: int) -> float:
        """Bytes to pixels at the resolution of the arm in a column of the kind's own."""
        base = self._decodings[self.first_column[id(kind)] + column][self._picture_of[request]]
        return base * self.noise.of(request)[-1] if base else 0.0

    def service_ms(self, kind: Kind, column: int, requests: Sequence[int]) -> float:
        """Inference of a batch, as slow as its slowest member has it."""
        place = self.first_column[id(kind)] + column
        factor = max(self.noise.of(request)[place] for request in requests)
        arm_id = kind.arms[column].id
        return kind.service_ms(arm_id, len(requests)) * factor

    def run_ms(self, kind: Kind, column: int, request: int) -> float:
        """How long one request alone takes a slot."""
        decode_ms = self.decode_ms(kind, column, request)
        return kind.hop_ms + decode_ms + self.service_ms(kind, column, (request,))

    def table(self, first: int, last: int) -> Floats:
        """Slot time of requests `first` up to but not including `last`, [request, column].

        For batches: the smallest share of one that a request can come to.
        """
        factors = self.noise.rows(first, last)
        pictures = self._pictures[first:last]
        decode_ms = np.array(self._decodings)[:, pictures].T * factors[:, -1:]
        service_ms = np.array([_least_ms(kind, arm) for kind in self.kinds for arm in kind.arms])
        hops_ms = np.array(
            [kind.hop_ms / kind.largest_batch(arm.id) for kind in self.kinds for arm in kind.arms]
        )
        return hops_ms + decode_ms + service_ms * factors[:, :-1]

    @cached_property
    def _decodings(self) -> list[list[float]]:
        """By column and picture, without noise."""
        return [
            [kind.decode_ms(picture, arm.resolution) for picture in self._scenario.pictures]
            for kind in self.kinds
            for arm in kind.arms
        ]


def _least_ms(kind: Kind, arm: Arm) -> float:
    return min(timing.p50_ms / size for size, timing in kind.timings[arm.id].items())


def _slopes(timing: Timing, noise: float | None) -> tuple[float, float]:
    """Growth of the logarithm per standard deviation, up to the p90 and beyond it."""
    if noise is not None:
        return noise, noise
    near = math.log(timing.p90_ms / timing.p50_ms) / Z90
    if timing.p99_ms is None:
        return near, near
    return near, math.log(timing.p99_ms / timing.p90_ms) / (Z99 - Z90)
