"""`mnv4serve bench`: a short open-loop load against a running service."""

import asyncio
import itertools
import random
import selectors
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mnv4serve.catalog import find_models
from mnv4serve.cli.options import AsJson, print_json, stdout
from mnv4serve.cli.progress import Advance, progress_bar
from mnv4serve.cli.top import Address, ApiKey, http_address, key_headers, nothing_answers
from mnv4serve.client import Reply, Unreachable
from mnv4serve.client.http import AsyncHttpSender
from mnv4serve.client.operations import CLASSIFY, Request
from mnv4serve.errors import BadImage, MnvError, ServeError, code
from mnv4serve.serving.terms import MAX_BUDGET_MS

MS = 1000.0
MAX_REQUESTS = 100_000
PATIENCE_S = 2.0
EXAMPLE = Path("examples") / "golf_ball.jpg"


@dataclass(frozen=True, slots=True)
class Shot:
    """One request: how long it took from when it was due, and what came back."""

    budget_ms: float
    latency_ms: float
    answer: Reply | MnvError

    @property
    def on_time(self) -> bool:
        return isinstance(self.answer, Reply) and self.latency_ms <= self.budget_ms


def register(app: typer.Typer) -> None:
    app.command()(bench)


def bench(
    url: Address = "http://127.0.0.1:8000",
    *,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--image", help="Picture to send; several take turns.", show_default="example"
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="Requests a second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Length of the load.")] = 10.0,
    budgets: Annotated[
        str, typer.Option(help="In milliseconds, with commas; each drawn equally often.")
    ] = "5,10,30,100",
    seed: Annotated[int, typer.Option(help="Of arrivals and budgets.")] = 0,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Send requests at random times to a running service and tell what came back on time.

    Latency counts from when a request was due, whatever became of those before it, and the
    client's own cost is in it.
    """
    address = http_address(url)
    pictures = [_read(path) for path in images or [find_models(None) / EXAMPLE]]
    plan = _arrivals(rate, seconds, _budgets(budgets), random.Random(seed))  # noqa: S311  # load
    due = list(itertools.islice(plan, MAX_REQUESTS))
    with progress_bar("load") as advance, asyncio.Runner(loop_factory=_precise_loop) as runner:
        shots = runner.run(_fire(address, key_headers(api_key), due, pictures, advance))
    found = summary(shots)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _budgets(text: str) -> tuple[float, ...]:
    try:
        budgets = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--budgets {text} is no list like 5,10,30") from error
    if not all(0 < budget_ms <= MAX_BUDGET_MS for budget_ms in budgets):
        raise typer.BadParameter(f"--budgets must be above 0 and at most {MAX_BUDGET_MS:.0f}")
    return budgets


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"{path} cannot be read: {error.strerror}") from error


def _arrivals(
    rate: float, seconds: float, budgets: Sequence[float], rng: random.Random
) -> Iterator[tuple[float, float]]:
    """When each request is due, in seconds from the start, and its budget."""
    due_s = rng.expovariate(rate)
    while due_s < seconds:
        yield due_s, rng.choice(budgets)
        due_s += rng.expovariate(rate)


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Timers of epoll round to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _fire(
    address: str,
    headers: dict[str, str],
    due: Sequence[tuple[float, float]],
    pictures: Sequence[bytes],
    advance: Advance,
) -> list[Shot]:
    sender = AsyncHttpSender(address, headers=headers)
    try:
        await _check(sender, address, pictures[0])
        start_s = time.perf_counter()
        tasks, told_s = [], 0
        for sent, ((due_s, budget_ms), image) in enumerate(zip(due, itertools.cycle(pictures)), 1):
            await asyncio.sleep(max(0.0, start_s + due_s - time.perf_counter()))
            shot = _shoot(sender, image, budget_ms, due_s=start_s + due_s)
            tasks.append(asyncio.create_task(shot))
            if int(due_s) > told_s:
                told_s = int(due_s)
                advance(f"{told_s} s", sent, len(due))
        return await asyncio.gather(*tasks)
    finally:
        await sender.close()


async def _check(sender: AsyncHttpSender, address: str, image: bytes) -> None:
    """One request before the load, so that a wrong address or key ends here with its sentence."""
    try:
        await sender.send(Request(CLASSIFY, image, {}, timeout_s=30.0))
    except Unreachable as error:
        raise (error if error.sent else nothing_answers(address)) from error


async def _shoot(sender: AsyncHttpSender, image: bytes, budget_ms: float, *, due_s: float) -> Shot:
    timeout_s = budget_ms / MS + PATIENCE_S
    request = Request(CLASSIFY, image, {"budget_ms": budget_ms}, timeout_s=timeout_s)
    try:
        answer: Reply | MnvError = await sender.send(request)
    except MnvError as error:
        answer = error
    return Shot(budget_ms, (time.perf_counter() - due_s) * MS, answer)


def summary(shots: Sequence[Shot]) -> dict[str, object]:
    """What a run came to: as a whole, by budget, by arm, by error."""
    budgets = sorted({shot.budget_ms for shot in shots})
    replies = [shot.answer for shot in shots if isinstance(shot.answer, Reply)]
    errors = Counter(_name(shot.answer) for shot in shots if isinstance(shot.answer, MnvError))
    return {
        **_line(shots),
        "budgets": [
            {"budget_ms": budget_ms, **_line([s for s in shots if s.budget_ms == budget_ms])}
            for budget_ms in budgets
        ],
        "arms": dict(Counter(reply.arm.id for reply in replies).most_common()),
        "errors": dict(errors.most_common()),
    }


def _line(shots: Sequence[Shot]) -> dict[str, object]:
    """On time as the caller saw it, of all that was sent; latency of what was answered."""
    ranked = sorted(shot.latency_ms for shot in shots if isinstance(shot.answer, Reply))
    return {
        "requests": len(shots),
        "on_time_share": sum(s.on_time for s in shots) / len(shots) if shots else None,
        "said_on_time_share": _said(shots),
        "p50_ms": ranked[len(ranked) // 2] if ranked else None,
        "p99_ms": ranked[len(ranked) * 99 // 100] if ranked else None,
    }


def _said(shots: Sequence[Shot]) -> float | None:
    """The same by the service's own clock, without the network and the client."""
    said = [isinstance(shot.answer, Reply) and shot.answer.on_time for shot in shots]
    return sum(said) / len(said) if said else None


def _name(error: MnvError) -> str:
    return code(type(error)) if isinstance(error, ServeError) else "unreachable"


def _show(found: dict[str, object]) -> None:
    table = Table(title="latency in ms from when a request was due", title_justify="left")
    for name in ("budget", "requests", "on time", "by its own clock", "p50", "p99"):
        table.add_column(name, justify="right")
    budgets = found["budgets"]
    assert isinstance(budgets, list)
    for line in (*budgets, found):
        budget_ms = line.get("budget_ms")
        table.add_row(
            "all" if budget_ms is None else f"{budget_ms:g} ms",
            str(line["requests"]),
            *(_cell(line[name], "{:.1%}") for name in ("on_time_share", "said_on_time_share")),
            *(_cell(line[name], "{:.2f}") for name in ("p50_ms", "p99_ms")),
        )
    stdout.print(table)
    for name in ("arms", "errors"):
        counts = found[name]
        assert isinstance(counts, dict)
        if counts:
            stdout.print(f"{name}: " + ", ".join(f"{n} {key}" for key, n in counts.items()))


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
