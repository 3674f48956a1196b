"""The two layers that run in real time, each beside the simulator on the same requests."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from loadtests.evaluate import models, simulated, stubs
from loadtests.evaluate.contenders import OURS, Contender
from loadtests.evaluate.grid import TUNING_SEED, Bench, Plan, bench_of, register, scenario
from loadtests.evaluate.jitter import beside
from loadtests.evaluate.live import Shot, reliability, result
from loadtests.evaluate.records import MODELS, STUBS, Condition, Findings
from loadtests.evaluate.tuning import best_fixed_arm, tuned
from mnv4serve.simulate.scenario import Scenario

STRETCHED, MACHINE = "prototype, stretched", "this machine"
CALM = 0.6
"""The load at which the loop's own time is measured."""
RIVALS = {
    STUBS: ("slackfit", "ramsis", "model-switching", "clockwork"),
    MODELS: ("slackfit", "late-binding", "model-switching", "infaas"),
}

Run = Callable[[Contender, Scenario], list[Shot]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each run is, and under which loads."""

    seconds: float
    loads: Sequence[float]
    arrivals: Sequence[str]
    seeds: int


def stub_turns(findings: Findings, plan: Plan, pace: Pace) -> Iterator[str]:
    """Policies on stub devices in turn; yields what comes next, before each turn."""
    kind = stubs.stretched(bench_of("prototype").kind)
    register(STRETCHED, Bench(kind, stubs.STRETCH))
    with beside(STUBS, findings.jitter):
        yield from _turns(findings, STRETCHED, stubs.run, plan=plan, pace=pace)


def model_turns(findings: Findings, plan: Plan, pace: Pace) -> Iterator[str]:
    """Policies on the models of this machine in turn."""
    yield "loading the models of this machine"
    with closing(models.Site.open()) as site:
        bench = Bench(site.kind, pictures=site.pictures)
        register(MACHINE, bench)
        calm = _asked(Condition(MACHINE, "mixed", "poisson", CALM), TUNING_SEED, pace.seconds)
        register(MACHINE, replace(bench, loop=site.loop_cost(calm)))
        with beside(MODELS, findings.jitter):
            yield from _turns(findings, MACHINE, site.run, plan=plan, pace=pace)


def _turns(findings: Findings, table: str, run: Run, *, plan: Plan, pace: Pace) -> Iterator[str]:
    layer = STUBS if table == STRETCHED else MODELS
    for arrivals in pace.arrivals:
        for load in pace.loads:
            condition = Condition(table, "mixed", arrivals, load)
            yield f"tuning for {condition.label}"
            found = tuned(condition, plan, only=RIVALS[layer])
            contenders = [Contender(OURS), best_fixed_arm(condition, plan), *found.values()]
            for seed in range(pace.seeds):
                asked = _asked(condition, seed, pace.seconds)
                for contender in contenders:
                    yield f"{contender.label}: {condition.label}"
                    _turn(findings, contender, condition, asked, layer=layer, run=run)
    yield from _forced(findings, table, run, layer, pace)


def _turn(
    findings: Findings,
    contender: Contender,
    condition: Condition,
    asked: Scenario,
    *,
    layer: str,
    run: Run,
) -> None:
    findings.results.append(simulated.run(contender, condition, asked))
    shots = run(contender, asked)
    ample_ms = simulated.ample_budget_ms(asked)
    findings.results.append(
        result(shots, contender, condition, layer=layer, asked=asked, ample_budget_ms=ample_ms)
    )


def _forced(findings: Findings, table: str, run: Run, layer: str, pace: Pace) -> Iterator[str]:
    """Arms at random at a load that leaves waits of all lengths."""
    condition = Condition(table, "mixed", "poisson", min(pace.loads) / 2.0)
    yield f"arms at random: {condition.label}"
    asked = _asked(condition, 0, 2.0 * pace.seconds)
    shots = run(Contender("forced"), asked)
    findings.reliability.append(reliability(shots, layer=layer, name=f"load {condition.load:g}"))


def _asked(condition: Condition, seed: int, seconds: float) -> Scenario:
    """As many requests as come within so many seconds."""
    rate_per_s = scenario(condition, seed=seed, requests=1).rate_per_s
    return scenario(condition, seed=seed, requests=max(int(rate_per_s * seconds), 20))
