"""Metrics through Ray: recorded in bulk, exported by each node's agent as `ray_mnv4serve_...`.

Recording one value through Ray costs microseconds, so that finished requests are collected and
accounted for a few times a second, away from the request path.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.serve import metrics as ray_metrics

from mnv4serve.domain import Served
from mnv4serve.metrics import Metrics, Series

FLUSH_INTERVAL_S = 0.5


class RaySink:
    """Ray's exporter; it knows no bounds below zero, which all fall into the lowest bucket."""

    def __init__(self) -> None:
        self._families: dict[str, Any] = {}
        self._watched: dict[object, tuple[Series, Callable[[], float]]] = {}

    def counter(self, name: str, text: str, labels: Mapping[str, str]) -> Series:
        if name not in self._families:
            self._families[name] = ray_metrics.Counter(name, text, tuple(labels))
        return _Series(self._families[name], labels)

    def histogram(
        self, name: str, text: str, labels: Mapping[str, str], *, buckets: Sequence[float]
    ) -> Series:
        if name not in self._families:
            bounds = [bound for bound in buckets if bound > 0.0]
            self._families[name] = ray_metrics.Histogram(name, text, bounds, tuple(labels))
        return _Series(self._families[name], labels)

    def gauge(self, name: str, text: str, labels: Mapping[str, str]) -> Series:
        if name not in self._families:
            self._families[name] = ray_metrics.Gauge(name, text, tuple(labels))
        return _Series(self._families[name], labels)

    def watch(
        self, name: str, text: str, labels: Mapping[str, str], read: Callable[[], float]
    ) -> None:
        key = (name, *labels.items())
        self._watched[key] = (self.gauge(name, text, labels), read)

    def text(self) -> bytes:
        return b""

    def collect(self) -> None:
        """Read every watched gauge: Ray exports only what was set since the last time."""
        for series, read in list(self._watched.values()):
            series.set(read())


class _Series:
    def __init__(self, family: Any, labels: Mapping[str, str]) -> None:  # noqa: ANN401
        self._family = family
        self._tags = dict(labels)

    def inc(self, amount: float = 1.0, /) -> None:
        self._family.inc(amount, tags=self._tags)

    def observe(self, value: float, /) -> None:
        self._family.observe(value, tags=self._tags)

    def set(self, value: float, /) -> None:
        self._family.set(value, tags=self._tags)


class Flusher:
    """Accounts for finished requests a few times a second."""

    def __init__(self, metrics: Metrics, sink: RaySink) -> None:
        self._metrics = metrics
        self._sink = sink
        self._finished: list[Served] = []

    def observe(self, served: Served) -> None:
        """Remember one finished request."""
        self._finished.append(served)

    async def run(self) -> None:
        """Flush until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(FLUSH_INTERVAL_S)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        """Account for what was remembered since the last time."""
        finished, self._finished = self._finished, []
        for served in finished:
            self._metrics.observe(served)
        self._sink.collect()
