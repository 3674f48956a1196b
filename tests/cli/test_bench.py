"""`bench`: what it sends and what it makes of the answers."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mnv4serve.cli import app
from mnv4serve.cli.bench import Shot, summary
from mnv4serve.client import Unreachable
from mnv4serve.errors import Busy
from tests.fakes import ARM, FakeGateway, error_of
from tests.servers import serving_http

SHORT = ("--seconds", "0.3", "--rate", "100", "--json")


async def invoke(*arguments: str) -> Result:
    """A command in a thread, so that the service can answer it."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["bench", *arguments])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"any bytes will do")
    return path


async def test_every_request_is_sent_and_accounted_for(picture: Path) -> None:
    """What the summary adds up to is what the service saw, beside one request to warm up."""
    gateway = FakeGateway()

    async with serving_http(gateway) as address:
        result = await invoke(address, "--image", str(picture), "--budgets", "2,1000", *SHORT)

    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["requests"] == len(gateway.calls) - 1 > 5
    assert sum(line["requests"] for line in found["budgets"]) == found["requests"]
    assert [line["budget_ms"] for line in found["budgets"]] == [2.0, 1000.0]
    assert found["arms"] == {ARM.id: found["requests"]}
    assert found["errors"] == {}
    tight, loose = (line["said_on_time_share"] for line in found["budgets"])
    assert (tight, loose) == (0.0, 1.0)


async def test_one_seed_sends_the_same_load_twice(picture: Path) -> None:
    """Two services can be compared on equal arrivals and budgets."""
    gateways = FakeGateway(), FakeGateway()

    for gateway in gateways:
        async with serving_http(gateway) as address:
            await invoke(address, "--image", str(picture), "--seed", "7", *SHORT)

    first, second = (sorted(call.terms.budget_ms for call in one.calls) for one in gateways)
    assert first == second  # sorted: connections may overtake each other
    assert len(set(first)) > 2


async def test_refusals_are_counted_and_missed() -> None:
    """A refused request is not on time and has no latency."""
    refusal = error_of(Busy)
    gone = Unreachable("the connection broke", sent=True)

    found = summary([Shot(5.0, 1.0, refusal), Shot(5.0, 1.0, gone)])

    assert found["errors"] == {"busy": 1, "unreachable": 1}
    assert (found["on_time_share"], found["p50_ms"]) == (0.0, None)


async def test_a_table_tells_the_same(picture: Path) -> None:
    """Without --json the budgets are lines for a person."""
    async with serving_http(FakeGateway()) as address:
        result = await invoke(address, "--image", str(picture), "--seconds", "0.2")

    assert result.exit_code == 0
    assert "100 ms" in result.stdout
    assert ARM.id in result.stdout


@pytest.mark.parametrize("budgets", ["fast", "5,0", "", "nan", "5,inf", "700000"])
async def test_budgets_that_are_none_are_wrong_usage(budgets: str, picture: Path) -> None:
    """A mistyped list never reaches a service."""
    result = await invoke("http://127.0.0.1:1", "--image", str(picture), "--budgets", budgets)

    assert result.exit_code == 2
    assert "--budgets" in result.stderr


async def test_where_nothing_answers_no_load_is_sent(picture: Path) -> None:
    """The first request tells, and its sentence says what to do."""
    result = await invoke("http://127.0.0.1:1", "--image", str(picture))

    assert isinstance(result.exception, Unreachable)
    assert "start one with `mnv4serve serve`" in str(result.exception)
