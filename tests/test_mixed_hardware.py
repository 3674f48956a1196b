"""The page on mixed hardware: what it counts, whom it calls a winner, and what it marks."""

import pytest

pytest.importorskip("matplotlib", reason="the page's plot needs the extra plot")

import io
from dataclasses import replace

from rich.console import Console

from loadtests.asks import Ask
from loadtests.mixed_hardware import findings, page, terminal
from loadtests.mixed_hardware.asking import Shot, Told, shot_of

CPU = Shot(
    budget_ms=5.0,
    pin="",
    outcome="on_time",
    arm="v/cpu/int8/cpu",
    backend="cpu",
    reason="pinned",
    accuracy=0.8,
    predicted_ms=2.0,
    total_ms=2.5,
    service_ms=1.0,
)
CHIP = replace(
    CPU,
    outcome="late",
    arm="v/edgetpu/int8/edgetpu:simulated-usb3",
    backend="edgetpu",
    simulated=True,
    reason="degraded",
    accuracy=0.7,
    predicted_ms=4.0,
    total_ms=4.0,
    service_ms=3.0,
)
REFUSED = Shot(9.0, "", "refused")


def live(arm: Shot, *, expected_ms: float | None, resident: bool = True) -> dict[str, object]:
    """An arm as the live frontier shows it."""
    return {
        "arm": arm.arm,
        "backend": arm.backend,
        "accuracy": arm.accuracy,
        "p50_ms": arm.service_ms,
        "expected_ms": expected_ms,
        "resident": resident,
        "simulated": arm.simulated,
    }


def test_a_shot_keeps_what_the_service_said() -> None:
    """The whole answer where there was one, only the outcome where there was none."""
    document = {
        "backend": "edgetpu", "simulated": True, "accuracy": 0.7, "plan": {"reason": "degraded"},
        "latency_ms": {"predicted": 4.0, "total": 4.0, "service": 3.0},
    }  # fmt: skip

    shot = shot_of(Ask(5.0), Told("late", CHIP.arm, document))

    assert shot == CHIP
    assert shot_of(Ask(9.0), Told("refused")) == REFUSED


def test_lines_count_by_budget() -> None:
    """Requests without an answer count as offered, and as not on time."""
    first, second = findings.lines([CPU, CHIP, CPU, REFUSED])

    assert (first.budget_ms, first.answered, first.offered, first.simulated) == (5.0, 3, 3, 1)
    assert first.kinds == {"cpu": 2, "edgetpu": 1}
    assert first.on_time_share == pytest.approx(2 / 3)
    assert first.error_p90 == pytest.approx(0.2)
    assert (second.answered, second.on_time_share) == (0, 0.0)


def test_every_kind_wins_somewhere_or_is_told_why_not() -> None:
    """Missing with the reason given, not loaded, beaten, or a winner under a named condition."""
    onnx = replace(CPU, arm="v/onnx/fp32/cpu", backend="onnx", service_ms=1.5)
    litert = replace(CPU, arm="v/litert/int8/cpu", backend="litert")
    arms = [
        live(CPU, expected_ms=2.0),
        live(CHIP, expected_ms=4.0),
        live(onnx, expected_ms=3.0),
        live(litert, expected_ms=None, resident=False),
    ]

    found = {s.kind: s for s in findings.standings({"idle": [CPU]}, arms, {"cuda": "no driver"})}

    assert found["cpu"].wins == "idle: 1 of 1, at 5 to 5 ms"
    assert found["cuda"].why_not == "no driver"
    assert "v/cpu/int8/cpu (0.8000 in 2.00 ms)" in found["onnx"].why_not
    assert found["edgetpu"].simulated
    assert "(simulated)" in found["edgetpu"].why_not
    assert found["litert"].why_not.startswith("none of its arms is kept loaded")


@pytest.mark.parametrize(("slow", "holds"), [(1.0, True), (1.3, False)])
def test_a_simulated_device_is_held_against_its_model(slow: float, holds: bool) -> None:  # noqa: FBT001
    """Staying and switching apart; a third slower than the model is too much."""
    staying = [replace(CHIP, service_ms=slow)] * 5
    switching = [replace(CHIP, service_ms=slow * 9.0)] * 5

    one = findings.check(CHIP.arm, (1.0, 8.0), staying=staying, switching=switching)

    assert one.device_error == pytest.approx(slow - 1.0)
    assert findings.all_p90([one]) == one.total_p90 == 0.0
    assert page.holds(page.Found("", {}, [], [one], [])) is holds


def test_simulated_numbers_are_marked_on_the_page() -> None:
    """In each table that holds any, and in the plot's legend."""
    one = findings.check(CHIP.arm, (3.0, 1.0), staying=[CHIP], switching=[CHIP])
    arms = [live(CPU, expected_ms=2.0), live(CHIP, expected_ms=4.0)]
    conditions = {"one at a time": [CPU, CHIP]}
    standings = findings.standings(conditions, arms, {})

    html = page.render(page.Found("here", conditions, arms, [one], standings))

    assert "edgetpu (simulated)" in html
    assert f"{CHIP.arm} (simulated)" in html
    assert "1 of 2" in html
    assert html.count("<svg") == 1


def test_names_stay_whole_on_80_columns() -> None:
    """No arm, reason or heading is broken, and simulated answers are marked there too."""
    arm = "conv_small_050@160/edgetpu/int8/edgetpu:simulated-usb3"
    chip = replace(CHIP, arm=arm, reason="most_accurate_on_time", total_ms=104.25)
    one = findings.check(arm, (103.25, 104.75), staying=[chip], switching=[chip])
    arms = [live(CPU, expected_ms=2.0), live(chip, expected_ms=4.0)]
    conditions = {"load 1.5 (300 requests/s)": [CPU, chip, chip, REFUSED]}
    standings = findings.standings(conditions, arms, {"cuda": "no driver"})
    found, paper = page.Found("here", conditions, arms, [one], standings), io.StringIO()

    terminal.show(found, Console(file=paper, width=terminal.WIDTH))

    shown = paper.getvalue()
    assert shown.count("conv_small_050@160/edgetpu/int8") == 2
    assert "most_accurate_on_time 2" in shown
    assert "2 of 3, 2 simulated" in shown
    assert "edgetpu (simulated): load 1.5" in shown
    assert "cuda: nowhere, no driver" in shown
    for heading in ("budget", "accuracy", "simulated", "weights", "router"):
        assert heading in shown
    assert max(map(len, shown.splitlines())) <= terminal.WIDTH
