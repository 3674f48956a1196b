"""The results as tables: for the terminal, as Markdown and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from loadtests.peers.contenders import CONTENDERS

LABELS = {contender.name: contender.label for contender in CONTENDERS}
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;text-align:right;"
    "border-bottom:1px solid #8884}td:first-child,th:first-child{text-align:left}"
)


@dataclass(frozen=True, slots=True)
class Section:
    """One table with its title and what has to be said about it."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sections(found: Mapping[str, Any]) -> list[Section]:
    """Everything that a reader needs to judge the figures."""
    parts = [_same_artifact(found), *_mixed(found), _setups(found)]
    return [part for part in parts if part.rows]


def _same_artifact(found: Mapping[str, Any]) -> Section:
    columns = (
        "", "1 caller p50 ms", "p99", "CPU ms each", "8 callers, per s", "ours over it", "p50 ms",
        "p99", "CPU ms each", "failed",
    )  # fmt: skip
    by_name = found["same_artifact"]["rows"]
    ranked = sorted(by_name, key=lambda name: -by_name[name]["eight"]["per_s"])
    text = (
        f"{found['arm']}, one photo of {found['photo_bytes'] / 1000:.0f} kB; medians of "
        f"{found['rounds']} rounds. Client and server share the processor."
    )
    rows = [(LABELS[name], *_throughput(by_name[name])) for name in ranked]
    return Section("The same artifact behind every server", text, columns, rows)


def _throughput(row: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    one, eight = row["one"], row["eight"]
    ratio = eight["ours_over_it"]
    return (
        f"{one['p50_ms']:.2f}",
        f"{one['p99_ms']:.2f}",
        f"{one['cpu_ms']:.2f}",
        f"{eight['per_s']:.0f}",
        "-" if ratio is None else f"{ratio:.2f}",
        f"{eight['p50_ms']:.1f}",
        f"{eight['p99_ms']:.1f}",
        f"{eight['cpu_ms']:.2f}",
        str(one["failed"] + eight["failed"]),
    )


def _mixed(found: Mapping[str, Any]) -> list[Section]:
    lines = found["mixed"]["rows"]
    text = (
        "Open loop, Poisson, latency from the scheduled send; on time as the caller saw it, of all "
        "that was offered; effective accuracy counts what was late, refused or lost as wrong."
    )
    columns = ("", "serves", "on time", "effective accuracy", "p50 ms", "p99 ms", "CPU ms each")
    found_sections = []
    for rate in sorted({line["rate"] for line in lines}):
        ranked = sorted(
            (line for line in lines if line["rate"] == rate),
            key=lambda line: -line["effective_accuracy"],
        )
        title = f"Mixed budgets at {rate:g} requests a second"
        rows = [_mixed_row(line) for line in ranked]
        found_sections.append(Section(title, text, columns, rows))
    return found_sections


def _mixed_row(line: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        LABELS[line["contender"]],
        line["static_arm"] or "what fits",
        f"{line['on_time_share']:.1%}",
        f"{line['effective_accuracy']:.1%}",
        *("-" if line[key] is None else f"{line[key]:.1f}" for key in ("p50_ms", "p99_ms")),
        f"{line['cpu_ms']:.2f}",
    )


def _setups(found: Mapping[str, Any]) -> Section:
    rows = [
        (
            LABELS[name],
            setup["version"],
            ", ".join(f"{n}: {per_s:.0f}/s" for n, per_s in setup["tried"].items() if n),
            setup["setup"],
            setup["failed"],
        )
        for name, setup in found["setups"].items()
    ]
    columns = ("", "version", "workers tried", "configured as", "not measured because")
    text = "The number of workers with the higher throughput was measured."
    return Section("How each was run", text, columns, rows)


def markdown(found: Mapping[str, Any]) -> str:
    lines = [f"# {_title(found)}", "", _made(found)]
    for part in sections(found):
        rule = ["---", *("--:" for _ in part.columns[1:])]
        table = [part.columns, rule, *part.rows]
        lines += ["", f"## {part.title}", "", part.text, ""]
        lines += [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join(lines) + "\n"


def html(found: Mapping[str, Any]) -> str:
    parts = [f"<h1>{escape(_title(found))}</h1>", f"<p>{escape(_made(found))}</p>"]
    for part in sections(found):
        parts.append(f"<h2>{escape(part.title)}</h2><p>{escape(part.text)}</p><table>")
        parts.append(_cells("th", part.columns))
        parts += [_cells("td", row) for row in part.rows]
        parts.append("</table>")
    head = f'<meta charset="utf-8"><title>{escape(_title(found))}</title><style>{STYLE}</style>'
    return f"<!doctype html>{head}\n" + "\n".join(parts) + "\n"


def _cells(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _title(found: Mapping[str, Any]) -> str:
    return f"mnv4serve beside its peers, {found['date']}"


def _made(found: Mapping[str, Any]) -> str:
    return (
        f"{found['machine']}. Servers ran one at a time and took turns, so compare within a table "
        "only."
    )
