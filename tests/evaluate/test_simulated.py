import pytest

from loadtests.evaluate import simulated
from loadtests.evaluate.contenders import Contender, statics
from loadtests.evaluate.grid import Plan, scenario
from loadtests.evaluate.records import Condition
from loadtests.evaluate.tuning import best_fixed_arm, fixed_arms, switching_table, tuned

LIGHT = Condition("prototype", "mixed", "poisson", 0.3)
HEAVY = Condition("prototype", "mixed", "poisson", 2.0)
PLAN = Plan((), 2, 200, 1, 200, (0.3, 2.0))


def arm(contender: Contender) -> str:
    return str(dict(contender.settings)["arm_id"])[0]


def test_fixed_arms_are_tried_for_the_load() -> None:
    """A light load affords a slower arm than a heavy one."""
    assert arm(best_fixed_arm(LIGHT, PLAN)) > arm(best_fixed_arm(HEAVY, PLAN))


def test_the_switching_table_goes_to_faster_arms() -> None:
    """As the rate rises, the best arm gets faster, and the last one serves all beyond."""
    table = switching_table(LIGHT, PLAN)

    assert [arm_id[0] for _, arm_id in table] == sorted((a[0] for _, a in table), reverse=True)
    assert table[-1][0] > 1e6


def test_tuning_takes_the_setting_that_did_best() -> None:
    """No other setting of the rival does better on the requests it was tuned on."""
    best = tuned(HEAVY, PLAN, only=("slackfit",))["slackfit"]
    asked = scenario(HEAVY, seed=1000, requests=200)
    worst = Contender("slackfit", (("buckets", 64), ("margin", 1.0)))

    assert (
        simulated.run(best, HEAVY, asked).effective_accuracy
        >= simulated.run(worst, HEAVY, asked).effective_accuracy
    )


def test_a_run_is_counted_over_all_requests() -> None:
    """Effective accuracy is that of on-time answers times their share, and its blocks' mean."""
    asked = scenario(HEAVY, seed=0, requests=200)

    found = simulated.run(fixed_arms(HEAVY)[2], HEAVY, asked)

    assert found.effective_accuracy == pytest.approx(found.accuracy_on_time * found.on_time_share)
    assert sum(found.blocks) / len(found.blocks) == pytest.approx(found.effective_accuracy)
    assert sum(found.mix.values()) == pytest.approx(1.0)
    assert found.promises_kept <= found.promised <= 200


def test_removed_features_run_on_the_same_requests() -> None:
    """The whole policy and the lesser one are there for every seed."""
    found = simulated.ablate(LIGHT, PLAN, ["without late binding"])

    assert [(r.policy, r.seed) for r in found] == [
        (policy, seed) for seed in (0, 1) for policy in ("priced", "without late binding")
    ]


def test_random_arms_show_predictions_of_all_kinds() -> None:
    """Some are sure to be late and some to be on time, and the bins say how it went."""
    curves = simulated.reliability(LIGHT, requests=300)

    assert [curve.bins[0][0] < 0.5 < curve.bins[-1][0] for curve in curves] == [True, True]
    assert all(sum(n for _, _, n in curve.bins) <= 300 for curve in curves)


def test_a_burst_is_shown_in_slices() -> None:
    """Each policy has its own slices over the same time."""
    moments = simulated.through_burst(
        HEAVY, statics(["a/cpu/fp32/prototype"]) * 2, requests=200, slices=5
    )

    assert len(moments) == 10
    assert {moment.policy for moment in moments} == {"static:a/cpu/fp32/prototype"}
