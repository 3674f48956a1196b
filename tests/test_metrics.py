"""Served records become the documented metrics."""

from dataclasses import replace
from math import isnan

import pytest

from mnv4serve.backends.edgetpu_heat import Heat
from mnv4serve.domain import (
    Arm,
    BackendName,
    Outcome,
    Plan,
    Precision,
    Reason,
    Served,
    Stages,
    Terms,
    Transport,
)
from mnv4serve.metrics import Metrics, PrometheusSink

ARM = Arm("conv_small@160", BackendName.CPU, Precision.BF16, "cpu", 160, accuracy=0.8)
PLAN = Plan(
    ARM,
    predicted_ms=4.0,
    wait_ms=1.0,
    decode_ms=1.0,
    service_ms=1.5,
    hop_ms=0.0,
    reply_ms=0.5,
    on_time_probability=0.99,
    reason=Reason.MOST_ACCURATE_ON_TIME,
)
STAGES = Stages(wait_ms=1.0, decode_ms=1.0, service_ms=2.0, total_ms=5.0)


def served(outcome: Outcome, **changes: object) -> Served:
    values: dict[str, object] = {"plan": PLAN, "stages": STAGES, "terms": Terms(budget_ms=10.0)}
    return Served("id", Transport.HTTP, outcome=outcome, **(values | changes))  # type: ignore[arg-type]


def _sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    assert isinstance(metrics.sink, PrometheusSink)
    return metrics.sink.registry.get_sample_value(f"mnv4serve_{name}", labels)


def test_an_answer_is_counted_under_its_arm_and_outcome() -> None:
    """The request counter carries transport, variant, backend, device and outcome."""
    metrics = Metrics()

    metrics.observe(served(Outcome.ON_TIME))

    labels = {"variant": "conv_small@160", "backend": "cpu", "device": "cpu", "transport": "http"}
    assert _sample(metrics, "requests_total", outcome="on_time", **labels) == 1


def test_an_answer_is_counted_under_the_reason_of_its_arm() -> None:
    """How often requests were priced down or degraded can be seen."""
    metrics = Metrics()

    metrics.observe(served(Outcome.LATE, plan=replace(PLAN, reason=Reason.DEGRADED)))

    assert _sample(metrics, "plans_total", reason="degraded") == 1
    assert _sample(metrics, "plans_total", reason="most_accurate_on_time") is None


def test_an_answer_fills_every_stage_in_seconds() -> None:
    """Latencies are exported in seconds, stage by stage."""
    metrics = Metrics()

    metrics.observe(served(Outcome.ON_TIME))

    stages = {"total": 0.005, "wait": 0.001, "decode": 0.001, "service": 0.002}
    for stage, seconds in stages.items():
        assert _sample(metrics, "latency_seconds_sum", stage=stage) == pytest.approx(seconds)
    assert _sample(metrics, "arm_service_seconds_sum", arm=ARM.id) == pytest.approx(0.002)
    assert _sample(metrics, "budget_slack_seconds_bucket", le="0.002") == 0
    assert _sample(metrics, "budget_slack_seconds_bucket", le="0.005") == 1
    assert _sample(metrics, "prediction_error_ratio_sum") == pytest.approx(1.25)


def test_only_answers_on_time_have_an_expected_accuracy() -> None:
    """A late answer adds nothing to the mean accuracy of what was delivered."""
    metrics = Metrics()

    metrics.observe(served(Outcome.ON_TIME))
    metrics.observe(served(Outcome.LATE))

    assert _sample(metrics, "expected_accuracy_count") == 1
    assert _sample(metrics, "expected_accuracy_sum") == pytest.approx(0.8)


def test_a_refusal_is_counted_by_reason_and_has_no_latency() -> None:
    """Requests without an answer do not distort the latencies."""
    metrics = Metrics()

    metrics.observe(served(Outcome.REFUSED, plan=None, stages=None, refused_reason="infeasible"))

    assert _sample(metrics, "refused_total", reason="infeasible") == 1
    assert _sample(metrics, "latency_seconds_count", stage="total") == 0


@pytest.mark.parametrize(
    ("outcome", "reason", "refused"),
    [
        (Outcome.REFUSED, "busy", 1),
        (Outcome.SHED, "shed", 1),
        (Outcome.EXPIRED, "expired", 1),
        (Outcome.INVALID, "bad_image", None),
        (Outcome.CANCELLED, "cancelled", None),
        (Outcome.ERROR, "internal", None),
    ],
)
def test_refused_is_what_a_sound_request_was_denied(
    outcome: Outcome, reason: str, refused: int | None
) -> None:
    """Malformed, withdrawn and failed requests are told by their outcome alone."""
    metrics = Metrics()

    metrics.observe(served(outcome, plan=None, stages=None, refused_reason=reason))

    no_arm = {"transport": "http", "variant": "", "backend": "", "device": ""}
    assert _sample(metrics, "refused_total", reason=reason) == refused
    assert _sample(metrics, "requests_total", outcome=outcome, **no_arm) == 1


def test_device_gauges_are_read_when_scraped() -> None:
    """Queue depth and slowdown show the value at the time of the scrape."""
    metrics = Metrics()
    depth = [3.0]
    metrics.watch_device(
        "cpu",
        queue_depth=lambda: depth[0],
        slowdown=lambda: 1.5,
        up=lambda: 1.0,
        simulated=False,
    )

    depth[0] = 7.0

    assert _sample(metrics, "queue_depth", device="cpu") == 7
    assert _sample(metrics, "device_slowdown_ratio", device="cpu") == 1.5
    assert b"mnv4serve_queue_depth" in metrics.text()


def test_how_much_of_a_device_is_in_use_is_read_when_scraped() -> None:
    """Busy slots over slots is the utilisation that capacity is planned by."""
    metrics = Metrics()
    busy = [0.0]
    metrics.watch_slots("cpu", slots=lambda: 2.0, busy=lambda: busy[0])

    busy[0] = 1.0

    assert _sample(metrics, "slots", device="cpu") == 2
    assert _sample(metrics, "slots_busy", device="cpu") == 1


def test_the_process_is_watched_and_nothing_is_exported_twice() -> None:
    """Memory, open files and processor time are there; when a series was made is not."""
    metrics = Metrics()
    metrics.observe(served(Outcome.ON_TIME))

    text = metrics.text().decode()

    for name in ("process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"):
        assert f"\n{name} " in text
    assert "_created" not in text


def test_heat_is_read_when_metrics_are_collected() -> None:
    """A device that shows no temperature for a while exports none, not a cold one."""
    metrics = Metrics()
    readings: list[Heat | None] = [Heat(91.0, (85.0, 90.0))]
    metrics.watch_heat("edgetpu:0", lambda: readings[0])

    def exported(name: str) -> float:
        value = _sample(metrics, name, device="edgetpu:0")
        assert value is not None
        return value

    assert exported("device_temperature_celsius") == 91.0
    assert exported("device_clock_ratio") == 0.25
    readings[0] = None
    assert isnan(exported("device_temperature_celsius"))
    assert isnan(exported("device_clock_ratio"))
