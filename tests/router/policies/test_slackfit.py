from mnv4serve.domain import Timing
from mnv4serve.router.planner import Pool
from mnv4serve.router.policies.slackfit import SlackFit
from mnv4serve.router.predict import Predictor
from tests.router.builders import ARMS, FREE
from tests.router.policies.desk import LARGE, MIDDLE, SMALL, Desk


def test_slack_selects_the_bucket_below_it() -> None:
    """The slack of the request that is due first decides, in steps of a bucket."""
    arms = [
        Desk(SlackFit(buckets=8, margin=1.0)).serve(budget_ms) for budget_ms in (1.5, 5.0, 12.0)
    ]

    assert arms == [SMALL, MIDDLE, LARGE]


def test_few_buckets_are_cautious() -> None:
    """A wide bucket is taken only once the slack covers all of it."""
    assert Desk(SlackFit(buckets=1, margin=1.0)).serve(9.0) == SMALL
    assert Desk(SlackFit(buckets=64, margin=1.0)).serve(9.6) == LARGE


def test_a_margin_asks_for_more_slack() -> None:
    """Latencies count for more than expected of them."""
    assert Desk(SlackFit(buckets=64, margin=1.5)).serve(9.6) == MIDDLE


def test_the_largest_batch_of_the_bucket_is_run() -> None:
    """Within a bucket the batch goes before accuracy, and accuracy decides among equals."""
    desk = _batching(SlackFit(buckets=2, margin=1.0, batches=(1, 2, 4)))
    for _ in range(4):
        desk.arrive(12.0)

    run = desk.started()

    assert len(run.jobs) == 4
    assert run.arm.id == MIDDLE


def test_gives_up_what_no_arm_can_make() -> None:
    """A head without the time for the fastest arm is dropped."""
    desk = Desk(SlackFit())
    desk.arrive(0.3)

    assert desk.dispatch().run is None


def _batching(policy: SlackFit) -> Desk:
    """A device on which a batch of four takes as long as two runs."""
    desk = Desk(policy)
    timings = {
        arm.id: {
            size: Timing(base * share, base * share * 1.05, base * share * 1.1, 100)
            for size, share in ((1, 1.0), (2, 1.3), (4, 2.0))
        }
        for arm, base in zip(ARMS, (1.0, 3.0, 9.0), strict=True)
    }
    predictor = Predictor(timings=timings, decode=FREE, reply_ms=0.1)
    desk.pool = Pool(desk.pool.device, ARMS, predictor, desk.pool.ledger, policy)
    return desk
