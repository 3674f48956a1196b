"""Prometheus metrics, fed with `Served` records; the only module that names a metric."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import generate_latest

from mnv4serve.domain import Outcome, Plan, Served, Stages

MS_PER_S = 1000.0
LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2,
)  # fmt: skip
SLACK_BUCKETS_S = (
    -1, -0.1, -0.05, -0.02, -0.01, -0.005, -0.002, -0.001,
    0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1,
)  # fmt: skip
RATIO_BUCKETS = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10)
NO_ARM = ("", "", "")
STAGES = ("total", "wait", "decode", "service")
ANSWERED = frozenset({Outcome.ON_TIME, Outcome.LATE})


class Metrics:
    """Counts and times of everything served, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mnv4serve_requests",
            "Requests by how they ended",
            ("transport", "variant", "backend", "device", "outcome"),
            registry=self.registry,
        )
        self._latency = self._histogram(
            "latency_seconds", "Where the time of answered requests went", ("stage",)
        )
        self._stages = tuple((self._latency.labels(name), f"{name}_ms") for name in STAGES)
        self._counts: dict[tuple[str, ...], Counter] = {}
        self._services: dict[str, Histogram] = {}
        self._slack = self._histogram(
            "budget_slack_seconds",
            "Budget left when the reply was handed over; negative when late",
            buckets=SLACK_BUCKETS_S,
        )
        self._error_ratio = self._histogram(
            "prediction_error_ratio",
            "Real over predicted latency of answered requests, as planned at dispatch",
            buckets=RATIO_BUCKETS,
        )
        self._service = self._histogram(
            "arm_service_seconds", "Service time of each arm, inference alone", ("arm",)
        )
        self._refused = Counter(
            "mnv4serve_refused", "Requests without an answer, by reason", ("reason",),
            registry=self.registry,
        )  # fmt: skip
        self._accuracy = Summary(
            "mnv4serve_expected_accuracy",
            "Certified accuracy of the arms that answered on time; sum over count is the mean",
            registry=self.registry,
        )
        self._depth = self._gauge("queue_depth", "Requests waiting for a slot")
        self._slowdown = self._gauge("device_slowdown_ratio", "Service time now over profiled")
        self._simulated = self._gauge("device_simulated", "1 where the device is simulated")

    def _histogram(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        *,
        buckets: tuple[float, ...] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        return Histogram(f"mnv4serve_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"mnv4serve_{name}", text, ("device",), registry=self.registry)

    def describe_build(self, *, version: str, zoo: str, engine: str) -> None:
        """Export what is running as the labels of a constant 1."""
        info = Gauge(
            "mnv4serve_build_info", "What is running",
            ("version", "zoo", "engine"), registry=self.registry,
        )  # fmt: skip
        info.labels(version, zoo, engine).set(1)

    def watch_device(
        self,
        device: str,
        *,
        queue_depth: Callable[[], float],
        slowdown: Callable[[], float],
        simulated: bool,
    ) -> None:
        """Read a device's gauges when they are scraped."""
        self._depth.labels(device).set_function(queue_depth)
        self._slowdown.labels(device).set_function(slowdown)
        self._simulated.labels(device).set(int(simulated))

    def observe(self, served: Served) -> None:
        """Account for one finished request, exactly once."""
        labels = (served.transport, *_arm_labels(served.plan), served.outcome)
        self._count_of(labels).inc()
        if served.refused_reason is not None:
            self._refused.labels(served.refused_reason).inc()
        if served.outcome in ANSWERED:
            assert served.plan is not None
            assert served.stages is not None
            self._observe_answer(served, served.plan, served.stages)

    def _observe_answer(self, served: Served, plan: Plan, stages: Stages) -> None:
        for histogram, stage in self._stages:
            histogram.observe(getattr(stages, stage) / MS_PER_S)
        self._slack.observe((served.terms.budget_ms - stages.total_ms) / MS_PER_S)
        self._error_ratio.observe(stages.total_ms / plan.predicted_ms)
        self._service_of(plan.arm.id).observe(stages.service_ms / MS_PER_S)
        if served.outcome is Outcome.ON_TIME and plan.arm.accuracy is not None:
            self._accuracy.observe(plan.arm.accuracy)

    def _count_of(self, labels: tuple[str, ...]) -> Counter:
        """Looking a child up by its labels costs more than counting."""
        if labels not in self._counts:
            self._counts[labels] = self._requests.labels(*labels)
        return self._counts[labels]

    def _service_of(self, arm_id: str) -> Histogram:
        if arm_id not in self._services:
            self._services[arm_id] = self._service.labels(arm_id)
        return self._services[arm_id]

    def text(self) -> bytes:
        """The exposition that a Prometheus server scrapes."""
        return generate_latest(self.registry)


def _arm_labels(plan: Plan | None) -> tuple[str, str, str]:
    if plan is None:
        return NO_ARM
    return plan.arm.variant, plan.arm.backend, plan.arm.device
