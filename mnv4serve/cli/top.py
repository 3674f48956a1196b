"""`mnv4serve top`: watch a running service."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.live import Live
from rich.text import Text

from mnv4serve.cli.live import live_view
from mnv4serve.cli.options import AsJson, print_json, stdout
from mnv4serve.client import Frontier, Unreachable
from mnv4serve.client.http import HttpSender
from mnv4serve.client.operations import FRONTIER, Operation, Request
from mnv4serve.client.values import Json, frontier_from_json
from mnv4serve.errors import Expired, MnvError

TIMEOUT_S = 3.0
KEYS = Text("q quits", "dim")

_RAW: Operation[Json] = Operation(
    FRONTIER.verb, FRONTIER.path, dict, FRONTIER.rpc, FRONTIER.decode, dict
)
"""The frontier as the document that the service sends."""

Address = Annotated[str, typer.Argument(metavar="URL", help="Where the service answers over HTTP.")]
ApiKey = Annotated[str | None, typer.Option(help="Key to send, where the service wants one.")]
Pressed = Callable[[float], str]
"""Waits so many seconds for keys; empty where none came."""


def register(app: typer.Typer) -> None:
    app.command()(top)


def top(
    url: Address = "http://127.0.0.1:8000",
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one view and end.")] = False,
    as_json: AsJson = False,
    every_arm: Annotated[
        bool, typer.Option("--all", help="Also arms that are not loaded.")
    ] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")
    ] = 1.0,
    api_key: ApiKey = None,
) -> None:
    """Watch a running service: its arms with their latency now, queues, traffic, refusals.

    The key q quits. With --json the document of GET /frontier. Without a terminal the view is
    printed once.
    """
    address = http_address(url)
    sender = HttpSender(address, headers=key_headers(api_key))
    try:
        document = _ask(sender, address)
        if as_json:
            print_json(document)
            return
        first = _read(document, address)
        if once or not stdout.is_terminal:
            stdout.print(live_view(first, address=address, every_arm=every_arm))
            return
        _watch(sender, first, address=address, every_arm=every_arm, interval_s=interval_s)
    finally:
        sender.close()


def http_address(url: str) -> str:
    """The address without a trailing slash; anything but HTTP is wrong usage."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"{url} is no address like http://127.0.0.1:8000")
    return url.rstrip("/")


def key_headers(api_key: str | None) -> dict[str, str]:
    """What a service with API keys wants to see."""
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def nothing_answers(address: str) -> Unreachable:
    """The sentence for an address where no service listens."""
    advice = "start one with `mnv4serve serve`, or name the address where it runs"
    return Unreachable(f"nothing answers at {address}: {advice}", sent=False)


def _ask(sender: HttpSender, address: str) -> Json:
    try:
        return sender.send(Request(_RAW, b"", {}, timeout_s=TIMEOUT_S))
    except Expired as error:
        raise Unreachable(f"{address} gave no answer in {TIMEOUT_S:g} s", sent=True) from error
    except Unreachable as error:
        raise (error if error.sent else nothing_answers(address)) from error


def _read(document: Json, address: str) -> Frontier:
    try:
        return frontier_from_json(document)
    except (KeyError, TypeError) as error:
        raise Unreachable(f"{address} runs another version of mnv4serve", sent=True) from error


def _watch(
    sender: HttpSender, found: Frontier, *, address: str, every_arm: bool, interval_s: float
) -> None:
    """Draw again until somebody quits; while nothing answers, the last view stays with a note."""
    note = KEYS
    with _keyboard() as pressed, Live(console=stdout, screen=True) as live:
        while True:
            view = live_view(found, address=address, note=note, every_arm=every_arm)
            live.update(view, refresh=True)
            if "q" in pressed(interval_s).lower():
                return
            try:
                found, note = _read(_ask(sender, address), address), KEYS
            except MnvError as error:
                note = Text(str(error), "bold red")


@contextmanager
def _keyboard() -> Iterator[Pressed]:
    """Single keys without Enter, where there is a keyboard."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios  # noqa: PLC0415  # not on every system, and only a terminal needs it
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key(wait_s: float) -> str:
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    return os.read(sys.stdin.fileno(), 64).decode(errors="replace") if ready else ""


def _no_key(wait_s: float) -> str:
    time.sleep(wait_s)
    return ""
