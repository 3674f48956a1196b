"""Changing what is served while serving: the new beside the old until nothing needs that."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from mnv4serve.config import ServiceConfig
from mnv4serve.errors import ArmDown, BadConfig, code
from mnv4serve.serving.errand import Done, Errand, Failed
from mnv4serve.serving.pool_host import PoolHost
from mnv4serve.serving.site import PoolLike

NEW = ""
"""The generation that a replica starts with."""
CHANGEABLE = frozenset({"models", "zoo", "zoos", "max_arms", "memory_limit_bytes"})
GRACE_S = 5.0
"""How long an idle generation is kept for requests that are on their way to it."""
POLL_S = 0.05


def changed(config: ServiceConfig, changes: Mapping[str, Any]) -> ServiceConfig:
    """The configuration with what `user_config` says; raises BadConfig naming a wrong key."""
    wrong = sorted(set(changes) - CHANGEABLE)
    if wrong:
        can = ", ".join(sorted(CHANGEABLE))
        raise BadConfig(f"user_config cannot change {wrong[0]!r} while serving; it can: {can}")
    try:
        return ServiceConfig.model_validate(config.model_dump() | dict(changes))
    except ValidationError as error:
        raise BadConfig(f"user_config: {error.errors()[0]['msg']}") from error


def generation_of(changes: Mapping[str, Any]) -> str:
    """The same for the same changes, in every process."""
    text = json.dumps(changes, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def retire(pools: Sequence[PoolLike], *, grace_s: float = GRACE_S) -> None:
    """Close pools that are used no more, once what is in flight on them has finished."""
    if not pools:
        return
    await asyncio.sleep(grace_s)
    while not all(pool.idle for pool in pools):  # noqa: ASYNC110 - nobody would set an event
        await asyncio.sleep(POLL_S)
    for pool in pools:
        pool.close()


class Generations:
    """The hosts of one pool: the newest, and older ones that still have work."""

    def __init__(self, first: PoolHost) -> None:
        self.newest = first
        self._by_name = {first.generation: first}
        self._retiring: set[asyncio.Task[None]] = set()

    async def run(self, errand: Errand) -> Done | Failed:
        """On the host that the errand was planned for and on no other: its labels may differ."""
        host = self._by_name.get(errand.generation)
        if host is None:
            gone = "what this was planned for is served no more"
            return Failed(code(ArmDown), gone, self.newest.report())
        return await host.run(errand)

    def add(self, host: PoolHost, *, grace_s: float = GRACE_S) -> None:
        """Take a new one, warm already, and retire the one before."""
        before, self.newest = self.newest, host
        self._by_name[host.generation] = host
        task = asyncio.create_task(self._retire(before, grace_s))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, host: PoolHost, grace_s: float) -> None:
        await retire([host.pool], grace_s=grace_s)
        if self._by_name.get(host.generation) is host:
            del self._by_name[host.generation]
