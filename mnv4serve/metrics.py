"""Prometheus metrics, fed with `Served` records; the only module that names a metric.

Where they end up is the sink's matter: a registry of this process, or Ray's exporter.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import nan
from typing import Any, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from mnv4serve.backends.edgetpu_heat import Heat
from mnv4serve.domain import Outcome, Plan, Served, Stages

MS_PER_S = 1000.0
LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2,
)  # fmt: skip
SLACK_BUCKETS_S = (
    -1, -0.1, -0.05, -0.02, -0.01, -0.005, -0.002, -0.001,
    0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1,
)  # fmt: skip
ACCURACY_BUCKETS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92, 0.95, 1)
RATIO_BUCKETS = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10)
NO_ARM = ("", "", "")
REQUEST_LABELS = ("transport", "variant", "backend", "device", "outcome")
STAGES = ("total", "wait", "decode", "service")
ANSWERED = frozenset({Outcome.ON_TIME, Outcome.LATE})
REFUSED = frozenset({Outcome.REFUSED, Outcome.SHED, Outcome.EXPIRED})
"""Sound requests that the service gave up, before or after it took them in."""


class Series(Protocol):
    """One time series: a metric with its labels."""

    def inc(self, amount: float = 1.0, /) -> None: ...
    def observe(self, value: float, /) -> None: ...
    def set(self, value: float, /) -> None: ...


class Sink(Protocol):
    """Where metrics end up; a counter's name is given without its `_total`."""

    def counter(self, name: str, text: str, labels: Mapping[str, str]) -> Series: ...
    def histogram(
        self, name: str, text: str, labels: Mapping[str, str], *, buckets: Sequence[float]
    ) -> Series: ...
    def gauge(self, name: str, text: str, labels: Mapping[str, str]) -> Series: ...

    def watch(
        self, name: str, text: str, labels: Mapping[str, str], read: Callable[[], float]
    ) -> None:
        """A gauge that is read whenever metrics are collected."""
        ...

    def text(self) -> bytes:
        """What a Prometheus server scrapes; empty where it scrapes something else."""
        ...


class PrometheusSink:
    """A registry of this process, with what the process itself uses, exposed as text."""

    def __init__(self) -> None:
        # A second series for each, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._families: dict[str, Any] = {}

    def counter(self, name: str, text: str, labels: Mapping[str, str]) -> Series:
        return self._series(Counter, name, text, labels)

    def histogram(
        self, name: str, text: str, labels: Mapping[str, str], *, buckets: Sequence[float]
    ) -> Series:
        return self._series(Histogram, name, text, labels, buckets=buckets)

    def gauge(self, name: str, text: str, labels: Mapping[str, str]) -> Series:
        return self._series(Gauge, name, text, labels)

    def watch(
        self, name: str, text: str, labels: Mapping[str, str], read: Callable[[], float]
    ) -> None:
        gauge: Any = self._series(Gauge, name, text, labels)
        gauge.set_function(read)

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def _series(
        self,
        kind: type[Counter | Gauge | Histogram],
        name: str,
        text: str,
        labels: Mapping[str, str],
        **more: Any,  # noqa: ANN401  # buckets, where there are any
    ) -> Series:
        if name not in self._families:
            self._families[name] = kind(name, text, tuple(labels), registry=self.registry, **more)
        family = self._families[name]
        series: Series = family.labels(**labels) if labels else family
        return series


class Metrics:
    """Counts and times of everything served."""

    def __init__(self, sink: Sink | None = None) -> None:
        self.sink: Sink = PrometheusSink() if sink is None else sink
        self._stages = tuple((self._stage(name), f"{name}_ms") for name in STAGES)
        self._counts: dict[tuple[str, ...], Series] = {}
        self._services: dict[str, Series] = {}
        self._refusals: dict[str, Series] = {}
        self._plans: dict[str, Series] = {}
        self._slack = self.sink.histogram(
            "mnv4serve_budget_slack_seconds",
            "Budget left when the reply was handed over; negative when late",
            {},
            buckets=SLACK_BUCKETS_S,
        )
        self._error_ratio = self.sink.histogram(
            "mnv4serve_prediction_error_ratio",
            "Real over predicted latency of answered requests, as planned at dispatch",
            {},
            buckets=RATIO_BUCKETS,
        )
        self._accuracy = self.sink.histogram(
            "mnv4serve_expected_accuracy",
            "Certified accuracy of the arms that answered on time; sum over count is the mean",
            {},
            buckets=ACCURACY_BUCKETS,
        )

    def describe_build(self, *, version: str, zoo: str, engine: str) -> None:
        """Export what is running as the labels of a constant 1."""
        labels = {"version": version, "zoo": zoo, "engine": engine}
        self.sink.watch("mnv4serve_build_info", "What is running", labels, lambda: 1.0)

    def watch_device(
        self,
        device: str,
        *,
        queue_depth: Callable[[], float],
        slowdown: Callable[[], float],
        up: Callable[[], float],
        simulated: bool,
    ) -> None:
        """Read a device's gauges when they are collected."""
        sink, labels = self.sink, {"device": device}
        sink.watch("mnv4serve_queue_depth", "Requests waiting for a slot", labels, queue_depth)
        slower = "Service time now over profiled"
        sink.watch("mnv4serve_device_slowdown_ratio", slower, labels, slowdown)
        sink.watch("mnv4serve_device_up", "0 while the device takes no work", labels, up)
        is_simulated = "1 where the device is simulated"
        sink.gauge("mnv4serve_device_simulated", is_simulated, labels).set(int(simulated))

    def watch_slots(
        self, device: str, *, slots: Callable[[], float], busy: Callable[[], float]
    ) -> None:
        """Read how much of a device is in use when metrics are collected."""
        labels = {"device": device}
        self.sink.watch("mnv4serve_slots", "Jobs that can run at the same time", labels, slots)
        self.sink.watch("mnv4serve_slots_busy", "Jobs that run now", labels, busy)

    def watch_heat(self, device: str, read: Callable[[], Heat | None]) -> None:
        """Read a temperature when metrics are collected; not a number while there is none."""

        def shown(value: Callable[[Heat], float]) -> float:
            heat = read()
            return nan if heat is None else value(heat)

        sink, labels = self.sink, {"device": device}
        celsius = partial(shown, lambda heat: heat.celsius)
        sink.watch("mnv4serve_device_temperature_celsius", "Of the chip", labels, celsius)
        slower = "Clock over full clock; below 1 while the device slows down for heat"
        clock = partial(shown, lambda heat: heat.clock_ratio)
        sink.watch("mnv4serve_device_clock_ratio", slower, labels, clock)

    def observe(self, served: Served) -> None:
        """Account for one finished request, exactly once."""
        labels = (served.transport, *_arm_labels(served.plan), served.outcome)
        self._count_of(labels).inc()
        if served.outcome in REFUSED and served.refused_reason is not None:
            self._refusal_of(served.refused_reason).inc()
        if served.outcome in ANSWERED:
            assert served.plan is not None
            assert served.stages is not None
            self._observe_answer(served, served.plan, served.stages)

    def _observe_answer(self, served: Served, plan: Plan, stages: Stages) -> None:
        for histogram, stage in self._stages:
            histogram.observe(getattr(stages, stage) / MS_PER_S)
        self._slack.observe((served.terms.budget_ms - stages.total_ms) / MS_PER_S)
        self._error_ratio.observe(stages.total_ms / plan.predicted_ms)
        self._plan_of(plan.reason).inc()
        self._service_of(plan.arm.id).observe(stages.service_ms / MS_PER_S)
        if served.outcome is Outcome.ON_TIME and plan.arm.accuracy is not None:
            self._accuracy.observe(plan.arm.accuracy)

    def _stage(self, name: str) -> Series:
        return self.sink.histogram(
            "mnv4serve_latency_seconds",
            "Where the time of answered requests went",
            {"stage": name},
            buckets=LATENCY_BUCKETS_S,
        )

    def _count_of(self, values: tuple[str, ...]) -> Series:
        """Looking a series up by its labels costs more than counting."""
        if values not in self._counts:
            labels = dict(zip(REQUEST_LABELS, values, strict=True))
            text = "Requests by how they ended"
            self._counts[values] = self.sink.counter("mnv4serve_requests", text, labels)
        return self._counts[values]

    def _refusal_of(self, reason: str) -> Series:
        if reason not in self._refusals:
            text = "Requests refused, shed or expired, by reason; the others by outcome alone"
            series = self.sink.counter("mnv4serve_refused", text, {"reason": reason})
            self._refusals[reason] = series
        return self._refusals[reason]

    def _plan_of(self, reason: str) -> Series:
        if reason not in self._plans:
            text = "Answered requests, by why their arm was taken"
            self._plans[reason] = self.sink.counter("mnv4serve_plans", text, {"reason": reason})
        return self._plans[reason]

    def _service_of(self, arm_id: str) -> Series:
        if arm_id not in self._services:
            self._services[arm_id] = self.sink.histogram(
                "mnv4serve_arm_service_seconds",
                "Service time of each arm, inference alone",
                {"arm": arm_id},
                buckets=LATENCY_BUCKETS_S,
            )
        return self._services[arm_id]

    def text(self) -> bytes:
        """The exposition that a Prometheus server scrapes."""
        return self.sink.text()


def _arm_labels(plan: Plan | None) -> tuple[str, str, str]:
    if plan is None:
        return NO_ARM
    return plan.arm.variant, plan.arm.backend, plan.arm.device
