from loadtests.evaluate import stubs
from loadtests.evaluate.contenders import Contender
from loadtests.evaluate.grid import Bench, register, scenario
from loadtests.evaluate.live import reliability, result
from loadtests.evaluate.records import STUBS, Condition
from mnv4serve.simulate.scenario import offer
from mnv4serve.simulate.tables import load_table

CONDITION = Condition("stubs under test", "loose", "poisson", 0.5)
register(CONDITION.table, Bench(stubs.stretched(load_table("prototype"), 2.0), stretch=50.0))


def test_the_real_router_answers_what_the_simulator_offers() -> None:
    """Every request ends once, with an arm of the table where it was answered."""
    asked = scenario(CONDITION, seed=0, requests=40)

    shots = stubs.run(Contender("late-binding"), asked)

    assert len(shots) == 40
    assert [round(shot.budget_ms) for shot in shots] == [
        round(budget_ms) for budget_ms in offer(asked).budgets_ms.tolist()
    ]
    assert {shot.arm[0] for shot in shots if shot.latency_ms is not None} <= set("abcdef")


def test_results_count_refusals_as_wrong() -> None:
    """An impossible budget is refused by a policy with admission, and worth nothing."""
    register("hurried", Bench(stubs.stretched(load_table("prototype")), stretch=0.01))
    hurried = Condition("hurried", "tight", "poisson", 0.5)
    asked = scenario(hurried, seed=0, requests=20)
    contender = Contender("queue-aware")

    shots = stubs.run(contender, asked)
    found = result(shots, contender, hurried, layer=STUBS, asked=asked, ample_budget_ms=1.0)

    assert found.refused_share == 1.0
    assert found.effective_accuracy == 0.0


def test_chances_are_judged_over_what_ran() -> None:
    """Requests without an answer made no prediction that came true or not."""
    asked = scenario(CONDITION, seed=1, requests=30)

    shots = stubs.run(Contender("forced"), asked)
    curve = reliability(shots, layer=STUBS, name="test")

    assert sum(n for _, _, n in curve.bins) == sum(s.latency_ms is not None for s in shots)


def test_the_number_travels_with_the_picture() -> None:
    """A stub knows which request it takes time for."""
    image = stubs.numbered(70_000)

    assert int.from_bytes(stubs.decode(image, None, None).tobytes(), "big") == 70_000  # type: ignore[arg-type]
