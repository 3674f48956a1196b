"""Callers that go away while their request is worked on."""

import asyncio
from collections.abc import Callable

from mnv4serve.errors import Cancelled
from mnv4serve.serving.bodies import Receive

WATCHING = "mnv4serve.watching"
"""Where in an ASGI scope the server puts the connection's `Watching`."""
Watching = set[Callable[[], None]]
"""Called when the connection is lost: cheaper than a task a request that waits for it."""


class CancelledWhenGone:
    """Cancels the current task when the caller closes the connection; raises Cancelled then."""

    __slots__ = ("_gone", "_receive", "_task", "_watch", "_watching")

    def __init__(self, watching: Watching | None, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._watching, self._receive = task, watching, receive
        self._gone = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        if self._watching is None:  # another server than ours
            self._watch = asyncio.create_task(self._wait())
        else:
            self._watching.add(self._cancel)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._watching is not None:
            self._watching.discard(self._cancel)
        if self._gone and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise Cancelled("the caller closed the connection") from None

    def _cancel(self) -> None:
        self._gone = True
        self._task.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel()
