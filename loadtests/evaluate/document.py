"""Findings as one HTML page that needs nothing else."""

from collections.abc import Iterable, Sequence
from html import escape
from statistics import fmean

from loadtests.evaluate import figures
from loadtests.evaluate.comparison import (
    MARGIN,
    OURS,
    Standing,
    Verdict,
    difference,
    gaps,
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
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; margin: .6rem 0 }
th, td { padding: .15rem .6rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
.ahead { color: #2a7 } .fails { color: #c22; font-weight: bold } .open { color: #b70 }
svg { max-width: 100%; height: auto } details { margin: .6rem 0 } pre { white-space: pre-wrap }
"""


def render(findings: Findings) -> str:
    """The whole report."""
    parts = [
        _opening(findings),
        _summary(findings),
        _pictures(findings),
        _rivals_that_win(findings),
        _comparisons(findings),
        _ablations(findings),
        _reliability(findings),
        _layers(findings),
        _settings(findings),
        _closing(findings),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Routing policies compared</title><style>{_STYLE}</style>"
        f"<body>{body}</body></html>\n"
    )


def _opening(findings: Findings) -> str:
    made = ", ".join(f"{name}: {value}" for name, value in findings.made_by.items())
    return (
        "<h1>Routing policies compared</h1>"
        "<p>Effective accuracy is the expected accuracy of the answers that were on time, summed "
        "and divided by <em>all</em> requests offered: late, refused and lost ones count as wrong. "
        "Every policy sees the same arrivals, budgets and service times. Differences are paired "
        "over parts of the same runs, with 95 % intervals, in points (hundredths). Every rival was "
        "tuned for the very condition, on seeds that are not among those shown; all of them use "
        "the same predictor as ours.</p>"
        f"<p><small>{escape(made)}</small></p>"
    )


def _summary(findings: Findings) -> str:
    found = verdicts(findings.results)
    if not found:
        return ""
    counts = {standing: sum(v.standing is standing for v in found) for standing in Standing}
    standings = (
        f"<li>{len(found)} comparisons of <b>{OURS}</b> with a rival under one condition: "
        f"{counts[Standing.AHEAD]} ahead, {counts[Standing.HOLDS]} not worse by more than "
        f"{POINTS * MARGIN:.1f} points, {counts[Standing.OPEN]} open, "
        f"{counts[Standing.FAILS]} worse.</li>"
    )
    lines = [standings, *_gap_lines(findings), *_promise_lines(findings)]
    return f"<h2>In short</h2><ul>{''.join(lines)}</ul>"


def _gap_lines(findings: Findings) -> list[str]:
    found = gaps(findings.results, findings.bounds)
    if not found:
        return []
    ours = fmean(gap.ours for gap in found)
    static = fmean(gap.static for gap in found)
    bound = fmean(gap.bound for gap in found)
    share = fmean(gap.closed for gap in found)
    line = (
        f"<li>Mean effective accuracy over {len(found)} conditions: best static arm in hindsight "
        f"{static:.3f}, {OURS} {ours:.3f}, clairvoyant LP bound {bound:.3f}. {OURS} closes "
        f"{share:.0%} of the gap on average ({(ours - static) / (bound - static):.0%} of the mean "
        f"gap) and stays {POINTS * (bound - ours):.1f} points below the bound, which no policy "
        "without foresight can reach.</li>"
    )
    return [line]


def _promise_lines(findings: Findings) -> list[str]:
    ours = [r for r in findings.results if r.policy == OURS and r.promised]
    lines = []
    for layer in LAYERS:
        runs = [result for result in ours if result.layer == layer]
        if promised := sum(result.promised for result in runs):
            kept = sum(result.promises_kept for result in runs) / promised
            false = fmean(result.false_refusal_share for result in runs)
            lines.append(
                f"<li>{layer}: {kept:.2%} of {promised} requests that were planned as on time, "
                "with budgets of twice the fastest arm's p99 or more, were on time; "
                f"{false:.2%} of offered requests were refused though an arm would have made it "
                "(known in the simulator only).</li>"
            )
    return lines


def _pictures(findings: Findings) -> str:
    simulated = [result for result in findings.results if result.layer == SIMULATOR]
    if not simulated:
        return ""
    loads = sorted({result.condition.load for result in simulated})
    shown = sorted({loads[0], min(loads, key=lambda load: abs(load - 1.0)), loads[-1]})
    parts = [
        "<h2>Effective accuracy against load</h2>",
        figures.effective_accuracy_by_load(simulated, findings.bounds),
        "<h2>Accuracy against on-time share</h2>",
        figures.accuracy_against_on_time(simulated, shown),
    ]
    if findings.bounds:
        parts += ["<h2>Regret</h2>", figures.regret_map(simulated, findings.bounds)]
    if findings.burst:
        parts += ["<h2>Through a burst</h2>", figures.burst(findings.burst)]
    return "".join(parts)


def _rivals_that_win(findings: Findings) -> str:
    lost = [v for v in verdicts(findings.results) if v.difference.high < 0.0]
    if not lost:
        return f"<h2>Where a rival wins</h2><p>Nowhere: no interval lies wholly below {OURS}.</p>"
    lost.sort(key=lambda verdict: verdict.difference.mean)
    lines = [f"<li>{_explain(findings.results, verdict)}</li>" for verdict in lost]
    return f"<h2>Where a rival wins</h2><ol>{''.join(lines)}</ol>"


def _explain(results: Sequence[Result], verdict: Verdict) -> str:
    ours = of_policy(results, verdict.condition, OURS)
    theirs = of_policy(results, verdict.condition, verdict.rival)
    on_time = POINTS * (
        fmean(r.on_time_share for r in theirs) - fmean(r.on_time_share for r in ours)
    )
    accuracy = POINTS * (
        fmean(r.accuracy_on_time for r in theirs) - fmean(r.accuracy_on_time for r in ours)
    )
    cause = "answers more requests in time" if on_time > abs(accuracy) else "gives better answers"
    if abs(on_time) <= abs(accuracy) and accuracy < 0.0:
        cause = "gains more punctuality than its faster arms cost"
    return (
        f"{escape(verdict.rival)} at {escape(verdict.condition.label)}: ours "
        f"{_signed(verdict.difference)} points. It {cause}: on time {on_time:+.1f} points, "
        f"accuracy of on-time answers {accuracy:+.1f} points. "
        f"Arms: ours {_mix(ours)}; it {_mix(theirs)}."
    )


def _comparisons(findings: Findings) -> str:
    blocks = [
        f"<details open><summary>{layer}</summary>{_layer_table(findings, layer)}</details>"
        for layer in LAYERS
        if any(result.layer == layer for result in findings.results)
    ]
    return f"<h2>Every condition</h2>{''.join(blocks)}" if blocks else ""


def _layer_table(findings: Findings, layer: str) -> str:
    found = verdicts(findings.results, layer=layer)
    columns = [
        *("condition", "policy", "effective accuracy", "on time", "accuracy of on-time"),
        *("p50 ms", "p99 ms", "goodput/s", "refused", "ours less it (points)", "standing"),
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
        _signed(verdict.difference) if verdict else "",
        f'<span class="{standing}">{standing}</span>',
    ]


def _ablations(findings: Findings) -> str:
    if not findings.ablations:
        return ""
    names = list(dict.fromkeys(r.policy for r in findings.ablations if r.policy != OURS))
    rows = [_ablation_row(findings.ablations, name) for name in names]
    return (
        "<h2>Without one feature at a time</h2><p>The whole policy less the policy without the "
        "feature, over all conditions below. A feature whose removal does not hurt is to be taken "
        "out. Batching is not among them: no arm table here has batches that pay.</p>"
        + _table(["without", "gain (points)", "worst condition for it", "best condition", ""], rows)
    )


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
    earns = everything.low > 0.0
    return [
        escape(name),
        _signed(everything),
        f"{POINTS * low[0].mean:+.2f} {escape(low[1].label)}",
        f"{POINTS * high[0].mean:+.2f} {escape(high[1].label)}",
        "earns its place" if earns else "does not earn its place here",
    ]


def _reliability(findings: Findings) -> str:
    if not findings.reliability:
        return ""
    return (
        "<h2>Calibration</h2><p>Arms forced at random, so that hard predictions are among them; "
        "bins of equal mass; the error is the mean absolute difference.</p>"
        + figures.reliability(findings.reliability)
    )


def _layers(findings: Findings) -> str:
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


def _settings(findings: Findings) -> str:
    rows = sorted(
        {
            (result.condition.label, result.policy, result.settings)
            for result in findings.results
            if result.settings and result.layer == SIMULATOR
        }
    )
    table = _table(["condition", "policy", "settings"], [list(map(escape, row)) for row in rows])
    return f"<h2>Settings</h2><details><summary>as tuned on other seeds</summary>{table}</details>"


def _closing(findings: Findings) -> str:
    lines = [f"<li>{escape(name)}: {value:.3f}</li>" for name, value in findings.jitter.items()] + [
        f"<li>{escape(note)}</li>" for note in findings.notes
    ]
    if not lines:
        return ""
    return f"<h2>The machine, and what was left out</h2><ul>{''.join(lines)}</ul>"


def _mix(runs: Sequence[Result]) -> str:
    arms = {arm for run in runs for arm in run.mix}
    shares = {arm: fmean(run.mix.get(arm, 0.0) for run in runs) for arm in arms}
    top = sorted(shares.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{escape(arm)} {share:.0%}" for arm, share in top)


def _signed(found: Interval) -> str:
    low, high = POINTS * found.low, POINTS * found.high
    return f"{POINTS * found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
