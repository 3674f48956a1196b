from loadtests.evaluate.document import render
from loadtests.evaluate.records import Bound, Findings, Moment, Reliability
from tests.evaluate.made_up import CONDITION, result, runs


def test_a_rival_that_wins_is_named_with_the_reason() -> None:
    """The report says where ours is beaten, by how much and by what."""
    results = [*runs("priced", 0.8, on_time=0.9), *runs("ramsis", 0.83, on_time=0.97)]

    page = render(Findings(results=results))

    assert "ramsis at prototype, mixed budgets, poisson, load 1: ours -3.00" in page
    assert "answers more requests in time: on time +7.0 points" in page


def test_nothing_is_claimed_where_nobody_wins() -> None:
    """The report says so where no policy is shown to be ahead."""
    page = render(Findings(results=[*runs("priced", 0.8), *runs("ramsis", 0.7)]))

    assert "Nowhere: no interval lies wholly below priced." in page


def test_the_gap_to_the_bound_is_told() -> None:
    """Half of the way from the best fixed arm is half."""
    findings = Findings(
        results=[*runs("priced", 0.8), *runs("static:a", 0.75)],
        bounds=[Bound(CONDITION, seed, 0.85) for seed in range(3)],
    )

    assert "closes 50% of the gap on average" in render(findings)


def test_features_that_do_not_help_are_called_out() -> None:
    """An ablation that loses nothing does not earn its place."""
    ablations = [
        *runs("priced", 0.8),
        *runs("without price", 0.7),
        *runs("without late binding", 0.8),
    ]

    page = render(Findings(ablations=ablations))

    assert page.index("without price") < page.index("earns its place")
    assert page.count("does not earn its place here") == 1


def test_features_that_would_help_are_called_out() -> None:
    """What is better with one more feature is not passed over."""
    better = [*runs("priced", 0.8), *runs("with free probes", 0.9)]
    equal = [*runs("priced", 0.8), *runs("with free probes", 0.8)]

    assert "would help" in render(Findings(ablations=better))
    assert "would bring nothing" in render(Findings(ablations=equal))


def test_layers_stand_beside_each_other() -> None:
    """Punctuality of the real router less that of the simulator, in points."""
    results = [
        result("priced", 0.8, on_time=0.98),
        result("priced", 0.8, on_time=0.97, layer="stubs"),
    ]

    assert "<td>-1.0</td>" in render(Findings(results=results))


def test_the_page_needs_nothing_else() -> None:
    """Plots are inline and what was named from outside is escaped."""
    findings = Findings(
        made_by={"machine": "<script>"},
        results=[*runs("priced", 0.8), *runs("slackfit", 0.7)],
        bounds=[Bound(CONDITION, 0, 0.85)],
        reliability=[Reliability("stubs", "load 0.3", 0.01, ((0.2, 0.3, 5), (0.9, 0.8, 5)))],
        burst=[Moment("priced", float(at), 900.0, 0.8, 1.0, {"a": 1.0}) for at in range(5)],
        jitter={"late from a sleep": 0.1},
    )

    page = render(findings)

    assert page.count("<svg") == 5
    assert "<script>" not in page
    assert "src=" not in page


def test_nothing_found_is_a_page_too() -> None:
    """An evaluation without results still renders."""
    assert "Routing policies compared" in render(Findings())
