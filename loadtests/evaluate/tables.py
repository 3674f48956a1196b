"""The report's tables."""

from collections.abc import Iterable, Sequence
from html import escape
from statistics import fmean

from loadtests.evaluate.ablations import REMOVED
from loadtests.evaluate.additions import ADDED
from loadtests.evaluate.comparison import (
    OURS,
    Verdict,
    difference,
    mean_accuracy,
    verdicts,
)
from loadtests.evaluate.records import (
    LAYERS,
    SIMULATOR,
    Condition,
    Findings,
    Result,
    conditions,
    of_policy,
)
from loadtests.evaluate.statistics import Interval

POINTS = 100.0


def comparisons(findings: Findings) -> str:
    """Ours and every rival under every condition, layer by layer."""
    blocks = [
        f"<details open><summary>{layer}</summary>{_layer_table(findings, layer)}</details>"
        for layer in LAYERS
        if any(result.layer == layer for result in findings.results)
    ]
    legend = (
        "<p>Refused: at arrival or given up later. Falsely: refused or degraded although an arm "
        "would have made it; only the simulator knows. CPU: processor time of the whole simulation "
        "a request, which bounds what its decisions take.</p>"
    )
    return f"<h2>Every condition</h2>{legend}{''.join(blocks)}" if blocks else ""


def ablations(findings: Findings) -> str:
    """What each feature is worth, and what those would be that are not there."""
    return _ablations(
        findings,
        REMOVED,
        "Without one feature at a time",
        "The whole policy less the policy without the feature, over all conditions below. A "
        "feature whose removal does not hurt is to be taken out.",
    ) + _ablations(
        findings,
        ADDED,
        "With one more feature at a time",
        "The whole policy less the policy with the feature. They are not in the product: none "
        "is to be put in that does not gain. Probes are free here, which real ones are not.",
    )


def _ablations(findings: Findings, names: Sequence[str], title: str, text: str) -> str:
    found = [name for name in names if any(r.policy == name for r in findings.ablations)]
    if not found:
        return ""
    rows = [_ablation_row(findings.ablations, name) for name in found]
    columns = ["", "ours less it (points)", "least, where", "most, where", ""]
    return f"<h2>{title}</h2><p>{text}</p>{_table(columns, rows)}"


def layers(findings: Findings) -> str:
    """The simulator beside what it simulates, under the same condition."""
    rows = [
        row
        for layer in LAYERS[1:]
        for condition in conditions(r for r in findings.results if r.layer == layer)
        for policy in dict.fromkeys(r.policy for r in findings.results if r.layer == layer)
        if (row := _layer_row(findings.results, condition, policy, layer))
    ]
    if not rows:
        return ""
    columns = [
        *("condition", "policy", "layer", "on time", "simulated", "difference (points)"),
        *("p99 ms", "simulated", "ratio"),
    ]
    return f"<h2>Simulator against the real router</h2>{_table(columns, rows)}"


def settings(findings: Findings) -> str:
    """What tuning chose, folded away."""
    rows = sorted(
        {
            (result.condition.label, result.policy, result.settings)
            for result in findings.results
            if result.settings and result.layer == SIMULATOR
        }
    )
    table = _table(["condition", "policy", "settings"], [list(map(escape, row)) for row in rows])
    return f"<h2>Settings</h2><details><summary>as tuned on other seeds</summary>{table}</details>"


def mix(runs: Sequence[Result]) -> str:
    """The three arms that answered most, with their shares."""
    arms = {arm for run in runs for arm in run.mix}
    shares = {arm: fmean(run.mix.get(arm, 0.0) for run in runs) for arm in arms}
    top = sorted(shares.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{escape(arm)} {share:.0%}" for arm, share in top)


def signed(found: Interval) -> str:
    """A difference in points with its interval."""
    low, high = POINTS * found.low, POINTS * found.high
    return f"{POINTS * found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _layer_table(findings: Findings, layer: str) -> str:
    found = verdicts(findings.results, layer=layer)
    columns = [
        *("condition", "policy", "effective accuracy", "on time", "accuracy of on-time"),
        *("p50 ms", "p99 ms", "goodput/s", "refused", "falsely", "CPU µs"),
        *("ours less it (points)", "standing"),
    ]
    rows = []
    for condition in conditions(r for r in findings.results if r.layer == layer):
        rows.append(_row(findings.results, condition, OURS, layer))
        rows += [
            _row(findings.results, condition, verdict.rival, layer, verdict)
            for verdict in found
            if verdict.condition == condition
        ]
    return _table(columns, [row for row in rows if row])


def _row(
    results: Sequence[Result],
    condition: Condition,
    policy: str,
    layer: str,
    verdict: Verdict | None = None,
) -> list[str]:
    runs = of_policy(results, condition, policy, layer=layer)
    if not runs:
        return []
    standing = verdict.standing if verdict else ""
    return [
        escape(condition.label),
        f"<b>{policy}</b>" if policy == OURS else escape(policy),
        f"{mean_accuracy(runs):.4f}",
        f"{fmean(r.on_time_share for r in runs):.2%}",
        f"{fmean(r.accuracy_on_time for r in runs):.4f}",
        f"{fmean(r.p50_ms for r in runs):.1f}",
        f"{fmean(r.p99_ms for r in runs):.1f}",
        f"{fmean(r.goodput_per_s for r in runs):.0f}",
        f"{fmean(r.refused_share for r in runs):.2%}",
        f"{fmean(r.false_refusal_share for r in runs):.2%}",
        f"{fmean(r.cpu_us for r in runs):.0f}",
        signed(verdict.difference) if verdict else "",
        f'<span class="{standing}">{standing}</span>',
    ]


def _ablation_row(results: Sequence[Result], name: str) -> list[str]:
    pairs = [
        (condition, of_policy(results, condition, OURS), of_policy(results, condition, name))
        for condition in conditions(results)
    ]
    gains = [(difference(full, less), c) for c, full, less in pairs if full and less]
    everything = difference(
        [run for _, full, less in pairs if less for run in full],
        [run for _, _, less in pairs for run in less],
    )
    low = min(gains, key=lambda pair: pair[0].mean)
    high = max(gains, key=lambda pair: pair[0].mean)
    return [
        escape(name),
        signed(everything),
        f"{POINTS * low[0].mean:+.2f} {escape(low[1].label)}",
        f"{POINTS * high[0].mean:+.2f} {escape(high[1].label)}",
        _lesson(name, everything),
    ]


def _lesson(name: str, found: Interval) -> str:
    if name in ADDED:
        return "would help" if found.high < 0.0 else "would bring nothing"
    return "earns its place" if found.low > 0.0 else "does not earn its place here"


def _layer_row(
    results: Sequence[Result], condition: Condition, policy: str, layer: str
) -> list[str]:
    real = of_policy(results, condition, policy, layer=layer)
    simulated = of_policy(results, condition, policy)
    if not real or not simulated:
        return []
    on_time, expected = (fmean(r.on_time_share for r in runs) for runs in (real, simulated))
    p99, expected_p99 = (fmean(r.p99_ms for r in runs) for runs in (real, simulated))
    return [
        escape(condition.label),
        escape(policy),
        layer,
        f"{on_time:.2%}",
        f"{expected:.2%}",
        f"{POINTS * (on_time - expected):+.1f}",
        f"{p99:.1f}",
        f"{expected_p99:.1f}",
        f"{p99 / expected_p99:.2f}" if expected_p99 else "",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
