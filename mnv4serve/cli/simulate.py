"""`mnv4serve simulate`: what policies would do under a load, and how much hardware a load takes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from mnv4serve.cli.kinds import HOST, LOOP_MS, load_kinds, measured_here
from mnv4serve.cli.options import (
    AsJson,
    ConfigFile,
    Models,
    StateDir,
    ZooName,
    configure,
    print_json,
    stdout,
)
from mnv4serve.cli.progress import progress_bar
from mnv4serve.cli.simulated import fleets_table, policies_table
from mnv4serve.domain import OnMiss
from mnv4serve.errors import BadConfig
from mnv4serve.router.policies import POLICIES
from mnv4serve.simulate.arrivals import Arrivals, Process
from mnv4serve.simulate.budgets import parse_budgets
from mnv4serve.simulate.capacity import Demand, Fleet, Search
from mnv4serve.simulate.engine import simulate as run
from mnv4serve.simulate.faults import parse_fault
from mnv4serve.simulate.hardware import Cluster, Kind, Loop
from mnv4serve.simulate.oracle import upper_bound
from mnv4serve.simulate.scenario import Scenario, offer, rate_at
from mnv4serve.simulate.summary import Summary, document, summarise
from mnv4serve.simulate.tables import shipped

LONG = 30_000
"""Requests, over all policies, from which a run shows how far it is."""
REQUESTS, PLAN_REQUESTS = 20_000, 60_000
ALL, DEFAULT = "all", "priced"
DEFAULT_PROFILE = "imagenette"


def register(app: typer.Typer) -> None:
    app.command()(simulate)


def simulate(
    *,
    policy: Annotated[
        str, typer.Option(metavar="NAME,...", help=f"{', '.join(POLICIES)}, or all.")
    ] = DEFAULT,
    arrivals: Annotated[Process, typer.Option(help="How requests come.")] = Process.POISSON,
    cv: Annotated[
        float, typer.Option(help="With gamma: spread of the gaps over their mean.")
    ] = 4.0,
    trace: Annotated[
        Path | None, typer.Option(help="Recorded arrivals: CSV of times, or counts a second.")
    ] = None,
    load: Annotated[
        float,
        typer.Option(
            help="Work offered over capacity: at 1.0 the middle arm of the frontier, answering "
            "everything, keeps every slot busy."
        ),
    ] = 1.0,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second, instead of --load.")
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(help="How many.", show_default="20,000; with --plan 60,000"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of arrivals, budgets and noise.")] = 0,
    budgets: Annotated[
        str, typer.Option(help="tight, mixed, loose, equal, or shares of ms as 0.3@3-8,0.7@36.")
    ] = "mixed",
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(shipped())}, {HOST}, an arm table (TOML, JSON) or a stored profile; "
            "several: one node's devices, with --plan the kinds to choose from.",
            show_default=DEFAULT_PROFILE,
        ),
    ] = None,
    replicas: Annotated[int, typer.Option(help="Nodes behind a load balancer.")] = 1,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="As slow=3@30-60/0: device 0 takes 3 times as long from 30 % to 60 %."),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(help="Log-normal spread of run times.", show_default="as in the profile"),
    ] = None,
    loop_ms: Annotated[
        float | None,
        typer.Option(
            help="What the event loop takes for a request, on the cores of the slots.",
            show_default=f"0; {LOOP_MS:g} for {HOST} and stored profiles",
        ),
    ] = None,
    on_miss: Annotated[OnMiss, typer.Option(help="What every request asks for.")] = OnMiss.REFUSE,
    bound: Annotated[
        bool, typer.Option("--bound", help="Also what no policy could exceed.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Find how many devices a load takes.")
    ] = False,
    target: Annotated[float, typer.Option(help="With --plan: share to be on time.")] = 0.99,
    target_accuracy: Annotated[
        float, typer.Option(help="With --plan: effective accuracy to reach as well.")
    ] = 0.0,
    cost: Annotated[
        list[str] | None, typer.Option(help="With --plan: of one device, as NAME=2.5.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Compare routing policies under a made-up load, or plan how much hardware a load takes.

    Devices, arrivals and budgets are drawn, decisions are those of the router's own code. The same
    seed gives every policy the same requests and run times. For example
    `mnv4serve simulate --policy all --load 1.2`, or `--plan --rate 500 --target 0.99`.
    """
    settings = configure(config=config, zoo=zoo, models=models, state_dir=state_dir)
    kinds = _with_costs(load_kinds(profile or [DEFAULT_PROFILE], settings), cost or [])
    if replicas < 1:
        raise BadConfig(f"{replicas} replicas: there must be 1 at least")
    if loop_ms is None:
        loop_ms = LOOP_MS if any(map(measured_here, profile or [])) else 0.0
    cluster = Cluster.of(*kinds, replicas=replicas, loop=Loop.of(loop_ms))
    scenario = Scenario(
        cluster=cluster,
        rate_per_s=rate_at(cluster, load) if rate is None else rate,
        requests=requests if requests is not None else PLAN_REQUESTS if plan else REQUESTS,
        seed=seed,
        arrivals=Arrivals(Process.TRACE if trace else arrivals, cv, trace),
        budgets=parse_budgets(budgets),
        faults=tuple(parse_fault(text) for text in fault or []),
        noise=noise,
        on_miss=on_miss,
    )
    names = _policies(policy)
    if plan:
        make_policy = POLICIES[names[0]]
        demand = Demand(scenario, make_policy, target=target, accuracy=target_accuracy)
        _plan(kinds, demand, as_json=as_json)
    else:
        _compare(scenario, names, bound=bound, as_json=as_json)


def _policies(text: str) -> list[str]:
    names = list(POLICIES) if text == ALL else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in POLICIES:
            raise BadConfig(f"unknown policy {name!r}; there are {', '.join(POLICIES)}, and {ALL}")
    return names


def _with_costs(kinds: Sequence[Kind], costs: Sequence[str]) -> tuple[Kind, ...]:
    given: dict[str, float] = {}
    for text in costs:
        name, _, value = text.partition("=")
        known = [kind.name for kind in kinds]
        try:
            given[name] = float(value)
        except ValueError:
            given[name] = math.nan
        if name not in known or not 0.0 < given[name] < math.inf:
            raise BadConfig(
                f"cost {text!r}: say NAME=COST with a cost above 0 and a name among "
                + ", ".join(known)
            )
    return tuple(replace(kind, cost=given.get(kind.name, kind.cost)) for kind in kinds)


def _compare(scenario: Scenario, names: Sequence[str], *, bound: bool, as_json: bool) -> None:
    offered = offer(scenario)
    steps = len(names) + bound
    total = steps * scenario.requests
    found: list[Summary] = []
    limit = None
    with progress_bar("simulating") as show:
        for place, name in enumerate(names):
            advance = _advance(show, name, place * scenario.requests, total)
            records = run(scenario, POLICIES[name], offered=offered, progress=advance)
            found.append(summarise(records, name))
        if bound:
            advance = _advance(show, "upper bound", len(names) * scenario.requests, total)
            limit = upper_bound(scenario, offered=offered, progress=advance)
    if as_json:
        rows = [document(summary) for summary in found]
        print_json({"policies": rows, "upper_bound": limit, "scenario": _described(scenario)})
        return
    stdout.print(policies_table(scenario, found))
    if limit is not None:
        stdout.print(f"no policy could exceed an effective accuracy of {limit:.4f} here")


def _advance(
    show: Callable[[str, int, int], None], name: str, before: int, total: int
) -> Callable[[int, int], None] | None:
    """Progress of one of several runs; None where they are over before one could read it."""
    if total < LONG:
        return None
    return lambda done, _: show(name, before + done, total)


def _described(scenario: Scenario) -> dict[str, object]:
    return {
        "devices": [kind.name for kind in scenario.cluster.devices],
        "rate_per_s": scenario.rate_per_s,
        "load": scenario.rate_per_s / scenario.cluster.capacity_per_s(),
        "arrivals": scenario.arrivals.process,
        "budgets": str(scenario.budgets),
        "requests": scenario.requests,
        "seed": scenario.seed,
        "on_miss": scenario.on_miss,
    }


def _plan(kinds: tuple[Kind, ...], demand: Demand, *, as_json: bool) -> None:
    with progress_bar("planning") as show:
        search = Search(kinds, demand, progress=lambda step, done: show(step, done, done))
        best = search.run()
    enough = sorted((f for f in search.tried.values() if f.enough), key=lambda f: f.cost)
    if as_json:
        fleets = [_fleet_document(kinds, fleet) for fleet in enough]
        print_json({"plan": _fleet_document(kinds, best), "enough": fleets})
        return
    stdout.print(fleets_table(kinds, demand, sorted(search.tried.values(), key=_by_cost)))
    named = ", ".join(f"{n} x {kind.name}" for n, kind in zip(best.counts, kinds, strict=True) if n)
    stdout.print(
        f"{named}: {best.on_time_share:.4f} on time, at least {best.at_least:.4f} with 95 % "
        f"confidence, effective accuracy {best.effective_accuracy:.4f}",
        soft_wrap=True,
    )


def _by_cost(fleet: Fleet) -> tuple[float, tuple[int, ...]]:
    return fleet.cost, fleet.counts


def _fleet_document(kinds: Sequence[Kind], fleet: Fleet) -> dict[str, object]:
    counts = {kind.name: n for kind, n in zip(kinds, fleet.counts, strict=True)}
    return {**asdict(fleet), "counts": counts}
