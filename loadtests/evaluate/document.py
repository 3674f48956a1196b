"""Findings as one HTML page that needs nothing else."""

from collections.abc import Sequence
from html import escape
from statistics import fmean

from loadtests.evaluate import figures, tables
from loadtests.evaluate.comparison import (
    MARGIN,
    OURS,
    Standing,
    Verdict,
    gaps,
    verdicts,
)
from loadtests.evaluate.records import (
    LAYERS,
    SIMULATOR,
    Findings,
    Result,
    of_policy,
)
from loadtests.evaluate.tables import POINTS

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
        tables.comparisons(findings),
        tables.ablations(findings),
        _reliability(findings),
        tables.layers(findings),
        tables.settings(findings),
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
        f"{tables.signed(verdict.difference)} points. It {cause}: on time {on_time:+.1f} points, "
        f"accuracy of on-time answers {accuracy:+.1f} points. "
        f"Arms: ours {tables.mix(ours)}; it {tables.mix(theirs)}."
    )


def _reliability(findings: Findings) -> str:
    if not findings.reliability:
        return ""
    return (
        "<h2>Calibration</h2><p>Arms forced at random, so that hard predictions are among them; "
        "bins of equal mass; the error is the mean absolute difference.</p>"
        + figures.reliability(findings.reliability)
    )


def _closing(findings: Findings) -> str:
    lines = [f"<li>{escape(name)}: {value:.3f}</li>" for name, value in findings.jitter.items()] + [
        f"<li>{escape(note)}</li>" for note in findings.notes
    ]
    if not lines:
        return ""
    return f"<h2>The machine, and what was left out</h2><ul>{''.join(lines)}</ul>"
