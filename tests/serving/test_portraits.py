"""Pools that are asked what they are when an ingress comes up."""

import asyncio
from dataclasses import replace

from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.serving.errand import Portrait
from mnv4serve.serving.portraits import portrait_of, portraits

NEAR = Portrait("near", "zoo", (), {}, DecodeCost(0.5, 0, 0, 0, 0), slots=1, max_queue=8)


class Asked:
    """A pool's answers, one an attempt; silent after the last."""

    def __init__(self, *answers: Portrait | Exception) -> None:
        self._answers = list(answers)

    async def __call__(self) -> Portrait:
        if not self._answers:
            await asyncio.Event().wait()
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_pool_that_restarts_is_asked_again() -> None:
    """Neither an error nor an older generation is taken for an answer."""
    newer = replace(NEAR, generation="newer")

    found = await portrait_of(
        Asked(ConnectionError("gone"), NEAR, newer),
        wanted=lambda portrait: portrait.generation == "newer",
    )

    assert found is newer


async def test_a_pool_that_is_away_is_not_waited_for() -> None:
    """Who answers in time is told of; the other is asked on."""
    answers = asyncio.Event()

    async def late() -> Portrait:
        await answers.wait()
        return replace(NEAR, label="far")

    there, away = await portraits(
        {"near": Asked(NEAR), "far": late}, wanted=lambda _: True, patience_s=0.1
    )
    answers.set()

    assert there == [NEAR]
    assert list(away) == ["far"]
    assert (await away["far"]).label == "far"


async def test_without_pools_nothing_is_waited_for() -> None:
    """An ingress with colocated pools only comes up at once."""
    assert await portraits({}, wanted=lambda _: True) == ([], {})
