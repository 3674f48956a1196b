from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.domain import BackendName, Precision, Timing
from mnv4serve.router.frontier import Point, contenders, frontier, resident_set
from tests.router.builders import arm

_points = st.lists(
    st.tuples(
        st.none() | st.sampled_from([0.0, 0.5, 0.6, 0.7, 0.8, 1.0]),
        st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0]),
        st.sampled_from([BackendName.CPU, BackendName.ONNX]),
        st.integers(0, 5),
    ),
    max_size=20,
    unique_by=lambda row: (row[2], row[3]),
).map(
    lambda rows: [
        Point(arm(f"v{number}", accuracy=accuracy, backend=backend), latency_ms)
        for accuracy, latency_ms, backend, number in rows
    ]
)


def _beats(one: Point, other: Point) -> bool:
    """At least as good on both, better on one."""
    assert one.arm.accuracy is not None
    assert other.arm.accuracy is not None
    faster = one.latency_ms - other.latency_ms
    better = one.arm.accuracy - other.arm.accuracy
    return faster <= 0 <= better and (faster, better) != (0, 0)


@given(_points)
def test_frontier_is_what_no_other_beats(points: list[Point]) -> None:
    """Compared pair by pair: on the frontier exactly what nothing beats, fastest first."""
    on_frontier = frontier(points)

    known = [p for p in points if p.arm.accuracy is not None]
    unbeaten = {p.arm.id for p in known if not any(_beats(other, p) for other in known)}
    latency = {p.arm.id: p.latency_ms for p in points}
    assert {one.id for one in on_frontier} == unbeaten
    assert len(on_frontier) == len(unbeaten)
    assert [latency[one.id] for one in on_frontier] == sorted(latency[i] for i in unbeaten)


@given(_points, st.integers(0, 12), st.integers(0, 100))
def test_resident_set_keeps_its_limits(
    points: list[Point], max_arms: int, memory_limit_bytes: int
) -> None:
    """Never more arms or bytes than allowed, no arm twice, and nothing left out that would fit."""
    sizes = {p.arm.id: 5 + int(p.latency_ms) for p in points}

    chosen = resident_set(
        points, max_arms=max_arms, memory_limit_bytes=memory_limit_bytes, sizes=sizes
    )

    ids = [one.id for one in chosen]
    used = sum(sizes[i] for i in ids)
    assert len(ids) == len(set(ids)) <= max_arms
    assert used <= memory_limit_bytes
    left_out = [size for i, size in sizes.items() if i not in ids]
    assert len(ids) == max_arms or all(used + size > memory_limit_bytes for size in left_out)


@given(_points)
def test_resident_set_has_the_fastest_and_the_frontier(points: list[Point]) -> None:
    """With room for it the whole frontier is resident, and the fastest arm always is."""
    sizes = {p.arm.id: 1 for p in points}
    best = frontier(points)

    def chosen(max_arms: int) -> list[str]:
        arms = resident_set(points, max_arms=max_arms, memory_limit_bytes=99, sizes=sizes)
        return [one.id for one in arms]

    assert {one.id for one in best} <= set(chosen(max(1, len(best))))
    if best:
        assert chosen(1) == [best[0].id]
        latency = {p.arm.id: p for p in points}
        most_accurate = max(
            (p for p in latency.values() if p.arm.accuracy is not None),
            key=lambda p: p.arm.accuracy or 0.0,
        )
        accuracies = {latency[i].arm.accuracy for i in chosen(2)}
        assert most_accurate.arm.accuracy in accuracies or len(best) == 1


def test_tied_arms_are_kept_for_pins_alone() -> None:
    """Off the frontier however accurate they look; resident as the only arm of their variant."""
    points = [
        Point(arm("a", accuracy=0.7), 1.0),
        Point(replace(arm("a", accuracy=0.71, backend=BackendName.ONNX), tied_to="a"), 1.5),
        Point(replace(arm("b", accuracy=0.72), tied_to="a"), 2.0),
        Point(arm("c", accuracy=0.9), 3.0),
        Point(arm("c", accuracy=0.85, backend=BackendName.ONNX), 4.0),
    ]

    chosen = resident_set(
        points, max_arms=9, memory_limit_bytes=99, sizes={p.arm.id: 1 for p in points}
    )

    assert [one.variant for one in frontier(points)] == ["a", "c"]
    assert [(one.variant, str(one.backend)) for one in chosen] == [
        ("a", "cpu"),
        ("c", "cpu"),
        ("c", "onnx"),
        ("b", "cpu"),
        ("a", "onnx"),
    ]


def test_a_pin_gets_a_tied_arm_rather_than_a_slower_one_that_is_no_better() -> None:
    """Not shown to beat another variant it still beats the slow arms of its own."""
    int8 = replace(arm("b", accuracy=0.81), precision=Precision.INT8, id="")
    points = [
        Point(arm("a", accuracy=0.8), 1.0),
        Point(replace(int8, tied_to="a"), 1.5),
        Point(arm("c", accuracy=0.81), 2.0),
        Point(arm("b", accuracy=0.81), 9.0),
    ]

    chosen = resident_set(
        points, max_arms=3, memory_limit_bytes=99, sizes={p.arm.id: 1 for p in points}
    )

    assert chosen == (points[0].arm, points[2].arm, points[1].arm)


def test_resident_set_answers_pins() -> None:
    """Each backend and each variant has an arm before second choices of the same are taken."""
    points = [
        Point(arm("a", accuracy=0.7), 1.0),
        Point(arm("b", accuracy=0.9), 2.0),
        Point(arm("b2", accuracy=0.899), 2.1),
        Point(arm("b", accuracy=0.89, backend=BackendName.ONNX), 4.0),
        Point(arm("c", accuracy=0.6), 3.0),
        Point(arm("a", accuracy=0.7, backend=BackendName.ONNX), 2.5),
        Point(arm("unknown", accuracy=None), 0.5),
    ]

    chosen = resident_set(
        points, max_arms=9, memory_limit_bytes=99, sizes={p.arm.id: 1 for p in points}
    )

    assert [(one.variant, str(one.backend)) for one in chosen] == [
        ("a", "cpu"),
        ("b", "cpu"),
        ("b", "onnx"),
        ("b2", "cpu"),
        ("c", "cpu"),
        ("a", "onnx"),
        ("unknown", "cpu"),
    ]


def test_arms_that_another_outclasses_are_no_contenders() -> None:
    """At least as accurate, on a picture no larger, far faster; a little faster is not enough."""
    fast = replace(arm("fast", resolution=128), accuracy=0.8)
    slower = replace(arm("slower", resolution=128), accuracy=0.8)
    slow = replace(arm("slow", resolution=128), accuracy=0.7)
    smaller = replace(arm("smaller", resolution=64), accuracy=0.7)
    better = replace(arm("better", resolution=224), accuracy=0.9)
    unknown = replace(arm("unknown", resolution=224), accuracy=None)
    arms = (fast, slower, slow, smaller, better, unknown)
    times_ms = (1.0, 1.9, 2.1, 2.1, 9.0, 50.0)
    timings = {
        one.id: {1: Timing(ms, ms, None, n=20)} for one, ms in zip(arms, times_ms, strict=True)
    }

    assert contenders(arms, timings) == (fast, slower, smaller, better, unknown)


def test_an_arm_that_gains_from_batches_is_not_outclassed_by_one_that_was_not_seen_to() -> None:
    """Alone it is slower; in batches it may be the faster one."""
    alone = replace(arm("alone", resolution=128), accuracy=0.8)
    batched = replace(arm("batched", resolution=128), accuracy=0.8)
    timings = {
        alone.id: {1: Timing(1.0, 1.0, None, n=20)},
        batched.id: {1: Timing(4.0, 4.0, None, n=20), 8: Timing(6.0, 6.0, None, n=20)},
    }

    assert contenders((alone, batched), timings) == (alone, batched)
