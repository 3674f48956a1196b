"""A service as it is now, drawn for a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mnv4serve.client import ArmView, Frontier
from mnv4serve.client.values import PoolView, Recent, Refusal

MS_PER_S = 1000.0
SLOW = 1.2
"""Slowdown from which a pool is worth a look."""
GOOD_SHARE = 0.95
NUMBER_WIDTH = 6


def live_view(
    found: Frontier, *, address: str, note: Text | None = None, every_arm: bool = False
) -> RenderableType:
    """Everything that `top` shows; `note` stands below the first line."""
    arms = [view for view in found.arms if every_arm or view.resident]
    hidden = len(found.arms) - len(arms)
    return Group(
        _headline(found, address),
        note or Text(),
        _pools(found.pools),
        _arms(arms, hidden=hidden),
        _refusals(found.recent.refusals),
    )


def _headline(found: Frontier, address: str) -> Text:
    recent = found.recent
    return Text.assemble(
        (f"{found.zoo} at {address}   ", "bold"),
        f"{_requests(recent)}   on time ",
        _share(recent.on_time_share),
        f"   p50 {_ms(recent.p50_ms)}   p99 {_ms(recent.p99_ms)}",
    )


def _requests(recent: Recent) -> str:
    if not recent.requests:
        return "no requests in the last minute"
    span_s = recent.span_ms / MS_PER_S
    rate = f", {recent.requests / span_s:.1f}/s" if span_s else ""
    return f"{recent.requests} requests in {span_s:.0f} s{rate}"


def _arms(views: Sequence[ArmView], *, hidden: int) -> RenderableType:
    if not views:
        return Text("no arm is loaded yet: the service builds, loads or measures them", "yellow")
    hint = f", {hidden} more are not loaded (--all)" if hidden else ""
    table = _table(f"● on the frontier now  latencies in ms{hint}")
    table.add_column("", no_wrap=True)
    table.add_column("arm", overflow="ellipsis")
    for name in ("accuracy", "p50", "p99", "expected", "traffic", "on time"):
        width = max(len(name), NUMBER_WIDTH)  # where it gets narrow, names give way to numbers
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    for view in sorted(views, key=_latency):
        table.add_row(
            "●" if view.on_frontier else "",
            view.arm.id + (" (simulated)" if view.arm.simulated else ""),
            _number(view.arm.accuracy, 4),
            _number(view.p50_ms, 2),
            _number(view.p99_ms, 2),
            _number(view.expected_ms, 2),
            _percent(view.traffic_share),
            _share(view.on_time_share),
            style=None if view.resident else "dim",
        )
    return table


def _latency(view: ArmView) -> float:
    return view.p50_ms if view.expected_ms is None else view.expected_ms


def _pools(pools: Sequence[PoolView]) -> Table:
    table = _table("")
    for name in ("pool", "running", "waiting", "slowdown"):
        table.add_column(name, justify="left" if name == "pool" else "right", no_wrap=True)
    for pool in pools:
        slowdown = Text(f"{pool.slowdown:.2f}", "yellow" if pool.slowdown >= SLOW else "")
        running = f"{pool.running} of {pool.slots}"
        table.add_row(pool.device, running, str(pool.queue_depth), slowdown)
    return table


def _refusals(refusals: Sequence[Refusal]) -> RenderableType:
    if not refusals:
        return Text("nothing was refused lately", "dim")
    table = _table("")
    for name in ("without an answer", "why", "budget", "over"):
        table.add_column(name, justify="right" if name == "budget" else "left", no_wrap=True)
    for one in refusals:
        ago = f"{one.ago_ms / MS_PER_S:.0f} s ago"
        table.add_row(f"{one.outcome} {ago}", one.reason, f"{one.budget_ms:g} ms", one.transport)
    return table


def _table(caption: str) -> Table:
    return Table(box=None, pad_edge=False, caption=caption or None, caption_justify="left")


def _share(share: float | None) -> Text:
    style = "" if share is None else "green" if share >= GOOD_SHARE else "yellow"
    return Text(_percent(share), style)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
