"""The load generators: what they claim about time, outcomes and books."""

import asyncio
import itertools
import random
import socket
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from loadtests import asks, bench, open_loop, sequential, soak
from loadtests.aio import precise_loop
from loadtests.asks import Answer, Ask
from loadtests.blocking import http_answer, http_request, read_head
from loadtests.flags import count, positive, reached
from loadtests.open_loop import fire, schedule, summary


class StalledClient:
    """Answers nothing until the last request has been sent, as a server in trouble would."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        self.all_sent = asyncio.Event()
        self.seen = 0

    async def classify(self, image: bytes, ask: Ask) -> Answer:
        del image, ask
        self.seen += 1
        if self.seen == self.requests:
            self.all_sent.set()
        await self.all_sent.wait()
        return Answer("on_time", "an/arm")

    async def leave(self, image: bytes, ask: Ask, *, after_s: float, sent: float = 1.0) -> Answer:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("arrivals", ["constant", "poisson", "gamma"])
def test_a_schedule_follows_from_its_seed_and_keeps_its_rate(arrivals: str) -> None:
    """Two runs with one seed send at the same times, on average at the rate asked for."""
    first = schedule(arrivals, rate=200.0, requests=20_000, seed=3)
    again = schedule(arrivals, rate=200.0, requests=20_000, seed=3)

    assert np.array_equal(first, again)
    assert np.all(np.diff(first) >= 0)
    assert 20_000 / first[-1] == pytest.approx(200.0, rel=0.06)


def test_gamma_gaps_have_the_spread_asked_for() -> None:
    """`cv` is the standard deviation of the gaps over their mean."""
    gaps = np.diff(schedule("gamma", rate=100.0, requests=50_000, seed=1, cv=3.0))

    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.1)


def test_a_stalled_server_does_not_stop_the_open_loop() -> None:
    """Requests go out on schedule though none is answered, and the wait counts into latency."""
    due_s = schedule("constant", rate=200.0, requests=20, seed=0).tolist()

    async def run() -> list[float]:
        shots = await fire(StalledClient(len(due_s)), due_s, [b"photo"], seed=0)
        return [shot.latency_ms for shot in shots]

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        latencies_ms = runner.run(run())

    assert latencies_ms[0] >= (due_s[-1] - due_s[0]) * 1000.0
    assert latencies_ms == sorted(latencies_ms, reverse=True)


def test_a_summary_counts_every_shot_once() -> None:
    """Budgets, outcomes and arms each add up to the requests sent."""
    due_s = [0.0] * 50

    async def run() -> dict[str, object]:
        return summary(await fire(StalledClient(50), due_s, [b"photo"], seed=1))

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        found = runner.run(run())

    budgets = found["budgets"]
    assert isinstance(budgets, list)
    assert found["outcomes"] == {"on_time": 50}
    assert found["arms"] == {"an/arm": 50}
    assert sum(line["requests"] for line in budgets) == 50


def test_mixed_asks_cover_all_budgets_and_both_ways_to_miss() -> None:
    """A run of ordinary length meets every branch of the service."""
    drawn = list(itertools.islice(asks.mixed(random.Random(0)), 300))

    assert {ask.budget_ms for ask in drawn} == set(asks.BUDGETS_MS)
    assert {ask.on_miss for ask in drawn} == {"refuse", "degrade"}


def test_an_ask_becomes_a_query_of_what_is_given_only() -> None:
    """What is None is left to the service's defaults."""
    request = http_request("host", b"JPEG", Ask(5.0, variant="conv_small@224"))

    assert Ask().query() == ""
    assert request.startswith(b"POST /classify?budget_ms=5.0&variant=conv_small%40224 HTTP/1.1")
    assert request.endswith(b"Content-Length: 4\r\n\r\nJPEG")


def test_a_head_tells_status_length_and_whether_the_connection_ends() -> None:
    """A connection that the server closes is not used again."""
    head = read_head(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\ncontent-length: 17")

    assert head == (413, 17, True)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, "invalid"), (413, "invalid"), (422, "refused"), (429, "refused"), (500, "error")],
)
def test_statuses_become_the_services_own_outcomes(status: int, outcome: str) -> None:
    """What a caller saw can be held against what the service counted."""
    assert http_answer(status, b"{}").outcome == outcome


def test_load_goes_to_this_machine_only() -> None:
    """Any other host is refused before anything is sent."""
    assert asks.only_loopback("127.0.0.1") == "127.0.0.1"

    with pytest.raises(SystemExit, match="loopback only"):
        asks.only_loopback("192.0.2.7")


def test_a_folder_without_photos_is_refused(tmp_path: object) -> None:
    """A mistyped folder does not silently become the example picture."""
    with pytest.raises(SystemExit, match="holds no"):
        asks.photos(str(tmp_path))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken and does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("module", [sequential, open_loop], ids=lambda module: module.__name__)
def test_without_a_server_one_sentence_says_how_to_start_one(
    module: ModuleType, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A string as the exit status is printed, and the exit code is 1."""
    flags = ["--port", str(closed_port), "--grpc-port", str(closed_port)]
    monkeypatch.setattr("sys.argv", [module.__name__, *flags])

    with pytest.raises(SystemExit) as ended:
        module.main()

    assert str(ended.value) == (
        f"nothing answers at 127.0.0.1:{closed_port}: start a server with `make serve`, "
        "or say where one runs, as --help tells"
    )


def test_a_server_that_goes_away_ends_the_run_with_a_sentence() -> None:
    """What happens in the middle of a run is told as well."""
    with pytest.raises(SystemExit, match="went away during the run"), reached("127.0.0.1"):
        raise ConnectionResetError("reset by peer")


@pytest.mark.parametrize(
    "module", [bench, sequential, open_loop, soak], ids=lambda module: module.__name__
)
def test_help_shows_an_example_to_copy(module: ModuleType) -> None:
    """The module's own text stands there as it was written, the command on a line of its own."""
    shown = module.parser().format_help()

    example = next(line for line in shown.splitlines() if line.startswith("    python -m "))
    assert example.split()[2] == module.__name__
    assert module.parser().parse_args(example.split()[3:])


@pytest.mark.parametrize("text", ["0", "-5", "x", "1.5", ""])
def test_a_number_of_requests_is_whole_and_above_zero(text: str) -> None:
    """A run of nothing would prove nothing."""
    with pytest.raises(ArgumentTypeError, match="no whole number above 0"):
        count(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast"])
def test_a_rate_is_above_zero(text: str) -> None:
    """Send times follow from dividing by it."""
    with pytest.raises(ArgumentTypeError, match="no number above 0"):
        positive(text)


def books(*, rss_bytes: list[int]) -> soak.Books:
    return soak.Books(
        sent=Counter(http=10, grpc=10), left=Counter(grpc=2), rss_bytes=rss_bytes, files=[30] * 40
    )


FLAT = [100 << 20] * 40
COUNTED = Counter({("http", "on_time"): 10, ("grpc", "on_time"): 7, ("grpc", "cancelled"): 1})


def test_a_clean_soak_has_no_failures() -> None:
    """Two abandoned gRPC calls may go uncounted; all else is exact."""
    assert soak.failures(books(rss_bytes=FLAT), COUNTED, files_after=30) == []


@pytest.mark.parametrize(
    ("rss_bytes", "counted", "files_after", "sentence"),
    [
        ([(100 + i) << 20 for i in range(40)], COUNTED, 30, "memory grew"),
        (FLAT, COUNTED - Counter({("http", "on_time"): 1}), 30, "http: 10 requests sent, 9"),
        (FLAT, COUNTED + Counter({("grpc", "error"): 3}), 30, "grpc: 10 requests sent, 11"),
        (FLAT, COUNTED - Counter({("grpc", "on_time"): 1}), 30, "grpc: 10 requests sent, 7"),
        (FLAT, COUNTED, 40, "40 files open"),
    ],
)
def test_a_soak_names_what_did_not_hold(
    rss_bytes: list[int], counted: Counter[tuple[str, str]], files_after: int, sentence: str
) -> None:
    """Leaks of memory and files and requests that nobody counted end the soak with a sentence."""
    found = soak.failures(books(rss_bytes=rss_bytes), counted, files_after)

    assert len(found) == 1
    assert sentence in found[0]


def test_the_soak_draws_every_kind_of_misuse_it_lists() -> None:
    """A kind without weight would never be sent."""
    drawn = soak.kinds(b"\xff\xd8" + bytes(1000))

    assert all(kind.weight > 0 for kind in drawn)
    assert sum(kind.leaves for kind in drawn) == 1
