"""Asking pools in other processes what they are; one that is away keeps nobody from serving."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from mnv4serve.serving.errand import Portrait

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long an ingress that comes up, or changes what it serves, waits for its pools."""
POLL_S = 0.1

Ask = Callable[[], Awaitable[Portrait]]
"""Raises whatever its transport raises when nobody is there."""


async def portrait_of(ask: Ask, *, wanted: Callable[[Portrait], bool]) -> Portrait:
    """Once the pool is there and serves what is wanted, however long that takes."""
    while True:
        try:
            portrait = await ask()
        except Exception as error:  # whatever the transport raises
            logger.warning("pool_silent", exc_info=error)
        else:
            if wanted(portrait):
                return portrait
        await asyncio.sleep(POLL_S)


async def portraits(
    asks: Mapping[str, Ask],
    *,
    wanted: Callable[[Portrait], bool],
    patience_s: float = PATIENCE_S,
) -> tuple[list[Portrait], dict[str, asyncio.Task[Portrait]]]:
    """Those of the pools that answer in time; the others by label, still being asked."""
    asking = {
        label: asyncio.create_task(portrait_of(ask, wanted=wanted)) for label, ask in asks.items()
    }
    if asking:
        await asyncio.wait(asking.values(), timeout=patience_s)
    late = {label: task for label, task in asking.items() if not task.done()}
    for label in late:
        logger.error("pool_away", extra={"device": label})
    return [task.result() for label, task in asking.items() if label not in late], late
