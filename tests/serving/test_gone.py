"""Behaviour of mnv4serve.serving.gone."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from mnv4serve.errors import Cancelled
from mnv4serve.serving.gone import CancelledWhenGone, Watching


class Connection:
    """What an application can await of a connection that stays open until it is closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.closed.wait()
        return {"type": "http.disconnect"}


async def work(watching: Watching | None, connection: Connection) -> None:
    with CancelledWhenGone(watching, connection.receive):
        await asyncio.sleep(60)


@pytest.mark.parametrize("told", [True, False])
async def test_work_ends_when_its_caller_goes(*, told: bool) -> None:
    """Whether the server tells or the connection has to be awaited, the error says why."""
    connection, watching = Connection(), set[Any]()
    task = asyncio.create_task(work(watching if told else None, connection))
    await asyncio.sleep(0)

    connection.closed.set()
    for callback in tuple(watching):
        callback()

    with pytest.raises(Cancelled, match="closed the connection"):
        await task
    assert not watching


async def test_another_cancellation_passes_through() -> None:
    """A shutdown is no caller that went away."""
    watching = set[Any]()
    task = asyncio.create_task(work(watching, Connection()))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not watching


async def test_finished_work_watches_no_more() -> None:
    """A kept connection that closes later ends nothing that comes after."""
    connection, watching = Connection(), set[Any]()

    with CancelledWhenGone(watching, connection.receive):
        assert len(watching) == 1

    assert not watching
