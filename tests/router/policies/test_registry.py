import pytest

from mnv4serve.errors import BadConfig
from mnv4serve.router.jobs import Job
from mnv4serve.router.policies import POLICIES, Setting, make_policy
from tests.router.builders import ARMS, SERVICE_MS, pool
from tests.router.policies.desk import Desk

BASE = pool(ARMS, SERVICE_MS)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_serves_an_idle_device(name: str) -> None:
    """Whatever it prefers, a request with time to spare is admitted and run at once."""
    desk = Desk(make_policy(name, Setting(ARMS, BASE.predictor, 1)))

    assert isinstance(desk.arrive(100.0), Job)
    assert len(desk.started().jobs) == 1


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_empties_its_queue(name: str) -> None:
    """Under overload each job is run or given up; no policy lets a slot idle for ever."""
    desk = Desk(make_policy(name, Setting(ARMS, BASE.predictor, 1)))
    ended = 0
    admitted = sum(isinstance(desk.arrive(20.0), Job) for _ in range(40))
    now_ms = 0.0
    while desk.pool.ledger.ready(now_ms):
        step = desk.dispatch(now_ms)
        ended += len(step.shed)
        if step.run is not None:
            now_ms += step.run.estimate.run_ms
            desk.finish(step.run, now_ms=now_ms)
            ended += len(step.run.jobs)

    assert ended + desk.pool.ledger.depth == admitted


def test_an_unknown_name_lists_those_there_are() -> None:
    """A misspelt policy is answered with the names that exist."""
    with pytest.raises(BadConfig, match="slackfit"):
        make_policy("clairvoyant", Setting(ARMS, BASE.predictor, 1))
