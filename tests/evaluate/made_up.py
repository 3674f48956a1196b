"""Results with known differences, to judge what the evaluation makes of them."""

from loadtests.evaluate.records import SIMULATOR, Condition, Result

CONDITION = Condition("prototype", "mixed", "poisson", 1.0)


def result(
    policy: str,
    accuracy: float,
    *,
    condition: Condition = CONDITION,
    seed: int = 0,
    layer: str = SIMULATOR,
    on_time: float = 1.0,
) -> Result:
    """A run with this effective accuracy, whose parts differ a little and alike for all."""
    blocks = tuple(accuracy + 0.001 * (place - 4.5) for place in range(10))
    return Result(
        layer=layer,
        condition=condition,
        seed=seed,
        policy=policy,
        settings="",
        offered=1000,
        effective_accuracy=accuracy,
        on_time_share=on_time,
        accuracy_on_time=accuracy / on_time,
        refused_share=0.0,
        p50_ms=5.0,
        p99_ms=20.0,
        goodput_per_s=100.0,
        blocks=blocks,
        mix={"a": 0.75, "b": 0.25},
    )


def runs(policy: str, accuracy: float, **known: object) -> list[Result]:
    """Three seeds of it."""
    return [result(policy, accuracy, seed=seed, **known) for seed in range(3)]  # type: ignore[arg-type]
