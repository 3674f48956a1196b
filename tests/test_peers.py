"""The comparison with other servers: what it sends, how it judges, what it writes down."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtests.asks import Answer, Ask
from loadtests.closed_loop import Throughput
from loadtests.open_loop import Shot
from loadtests.peers import environments, page
from loadtests.peers import running as running_module
from loadtests.peers.contenders import CONTENDERS, OURSELVES, Contender, chosen
from loadtests.peers.entrants import Effort, Entrant, Task, take_turns
from loadtests.peers.environments import PeerUnavailable, ensure, requirements
from loadtests.peers.mixed import judged
from loadtests.peers.mixed import rows as mixed_rows
from loadtests.peers.running import Expected, Running, classify_once, running
from loadtests.peers.trial import Load, best, rows
from loadtests.peers.wire import RAW, TRITON
from loadtests.peers.work import Asked
from loadtests.servers import free_port

STUB = """
import http.server, json, os, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        best = {"label": "LABEL", "index": 1, "probability": 0.9}
        arm = os.environ["PEERS_ARM"]
        body = json.dumps({"predictions": [best], "arm": arm, "on_time": True}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""
ARM = "small@32/cpu/int8/cpu"
EXPECTED = Expected(b"picture", "golf ball", 0.9, frozenset({ARM}))
TASK = Task(ARM, Ask(), EXPECTED)


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(running_module, "GRACE_S", 0.05)


def stub(name: str = "stub", *, label: str = "golf ball", script: str = STUB) -> Contender:
    """A server in the place of a peer, with a process of its own behind it."""
    script = script.replace("{", "{{").replace("}", "}}").replace("{{port}}", "{port}")
    command = ("-c", script.replace("LABEL", label))
    return Contender(name, name.title(), "stub", command, RAW, (1, 2), "a stub")


def entrant(contender: Contender) -> Entrant:
    return Entrant(contender, Path(sys.executable), TASK, workers=1)


def test_every_peer_has_a_handler_and_pinned_requirements() -> None:
    """What is compared can be installed again, and is the same everywhere."""
    peers = [contender for contender in CONTENDERS if not contender.ours]

    assert len(peers) >= 6
    for peer in peers:
        assert all("==" in line for line in requirements(peer.environment))
        named = " ".join(peer.command).partition(":")[0].split()
        module = next(word for word in named if word.startswith("loadtests.peers.handlers"))
        assert importlib.util.find_spec(module) is not None


def test_a_peer_gets_our_pins_and_may_have_its_own() -> None:
    """An artifact belongs to a version of its runtime, so that version is shared by all."""
    ours = {line for line in Path("constraints.txt").read_text().splitlines() if "==" in line}

    wanted = requirements("triton")

    assert set(requirements("mosec")) - ours == {"mosec==0.9.8"}
    assert [line for line in wanted if line.startswith("numpy")] == ["numpy==1.26.4"]
    assert any(line.startswith("openvino==") and line in ours for line in wanted)
    assert requirements("mnv4serve-ray")[:2] == (
        "--constraint",
        str(Path("constraints.txt").resolve()),
    )


def test_an_environment_that_is_there_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first run waits for downloads, and a change of a pin makes another environment."""
    told: list[str] = []
    monkeypatch.setattr(environments, "_run", lambda command, _: Path(command[-1]).mkdir(
        parents=True, exist_ok=True) if command[1:3] == ["-m", "venv"] else None)  # fmt: skip

    first = ensure("mosec", tell=told.append)
    again = ensure("mosec", tell=told.append)
    monkeypatch.setattr(environments, "COMMON", ("numpy",))
    other = ensure("mosec", tell=told.append)

    assert first == again != other
    assert len(told) == 2


def test_a_wrong_name_is_refused_with_the_right_ones() -> None:
    """A typing mistake does not silently compare fewer."""
    assert [contender.name for contender in chosen(["mosec"])] == ["mosec"]
    assert chosen([]) == CONTENDERS

    with pytest.raises(SystemExit, match="there is no torchserve: choose among mnv4serve, "):
        chosen(["torchserve"])


def test_a_triton_request_says_where_its_head_ends() -> None:
    """Head and picture follow each other, and the length of the first is told."""
    image = b"\xff\xd8picture"

    request = TRITON.write("host", image, Ask())

    head, _, body = request.partition(b"\r\n\r\n")
    length = int(head.split(b"Inference-Header-Content-Length: ")[1].split(b"\r\n")[0])
    assert request.startswith(b"POST /v2/models/classify/infer HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body[:length])["inputs"][0]["shape"] == [len(image)]
    assert body[length:] == image


def test_a_triton_answer_is_read_from_behind_its_head() -> None:
    """The reply tensor holds the same document that every other server sends."""
    document = {"predictions": [], "arm": ARM, "on_time": True}

    body = json.dumps({"outputs": [{"name": "REPLY"}]}) + json.dumps(document)

    assert TRITON.read(200, body.encode()) == Answer("on_time", ARM)
    assert TRITON.read(500, b"") == Answer("error")


def test_a_contender_runs_until_it_is_left_and_nothing_stays() -> None:
    """It answers right before anything is measured, and its workers end with it."""
    asked = Asked(ARM, free_port(), 1)

    with running(stub(), Path(sys.executable), asked, ask=Ask(), expected=EXPECTED) as server:
        document = classify_once(server, b"picture", Ask())
        tree = [server.process, *server.process.children(recursive=True)]
        used_ms = server.cpu_ms()

    assert document["arm"] == ARM
    assert used_ms > 0.0
    assert len(tree) == 2
    assert not any(psutil.pid_exists(process.pid) for process in tree)


@pytest.mark.parametrize(
    ("contender", "sentence"),
    [
        (stub(label="tench"), "Stub answers tench at 0.900 where the bare work says golf ball"),
        (stub(script="print('no port'); raise SystemExit(3)"), "ended before it answered: no port"),
    ],
)
def test_what_does_not_answer_right_takes_no_part(contender: Contender, sentence: str) -> None:
    """A fast wrong answer is no throughput; the reason is one sentence."""
    asked = Asked(ARM, free_port(), 1)

    with (
        pytest.raises(PeerUnavailable, match=sentence),
        running(contender, Path(sys.executable), asked, ask=Ask(), expected=EXPECTED),
    ):
        pass


def test_everybody_takes_turns_and_failures_are_kept() -> None:
    """The order turns round by round, and who failed once is not waited for again."""
    seen: list[tuple[int, str]] = []
    told: list[str] = []
    effort = Effort(rounds=2, seconds=0.1, warm_up=0, step=told.append)

    def measure(one: Entrant, server: Running, place: int) -> None:
        assert server.port
        seen.append((place, one.contender.name))

    failed = take_turns(
        [entrant(stub("a")), entrant(stub("b", label="tench")), entrant(stub("c"))],
        effort,
        measure,
    )

    assert seen == [(0, "a"), (0, "c"), (1, "c"), (1, "a")]
    assert list(failed) == ["b"]
    assert len(told) == 5


def test_the_better_number_of_workers_is_measured() -> None:
    """Peers run at their best setting, with the smaller of equals."""
    assert best({1: 200.0, 2: 350.5}) == 2
    assert best({1: 200.0, 2: 200.0}) == 1


def load(per_s: float) -> Load:
    return Load(Throughput("wrk", per_s, 2.0, 4.0, 100, 1), cpu_ms=1.5)


def test_rounds_come_down_to_medians_and_a_ratio_to_ours() -> None:
    """One odd round moves nothing."""
    found = rows(
        {
            OURSELVES: {"eight": [load(600.0), load(90.0), load(620.0)]},
            "mosec": {"eight": [load(500.0), load(400.0), load(480.0)]},
        }
    )

    assert found[OURSELVES]["eight"]["per_s"] == 600.0
    assert found["mosec"]["eight"]["ours_over_it"] == 1.25
    assert found["mosec"]["eight"]["failed"] == 3


def shot(budget_ms: float, latency_ms: float, arm: str = ARM) -> Shot:
    return Shot(Ask(budget_ms), Answer("on_time" if arm else "refused", arm), 0.0, latency_ms)


def test_what_is_late_refused_or_lost_counts_as_wrong() -> None:
    """Judged by the caller's clock, whatever the server says of itself."""
    shots = [shot(5.0, 4.0), shot(5.0, 6.0), shot(30.0, 6.0), shot(30.0, 1.0, arm="")]

    line = judged(shots, {ARM: 0.8})

    assert (line["requests"], line["answered"]) == (4, 3)
    assert line["on_time_share"] == 0.5
    assert line["effective_accuracy"] == pytest.approx(0.4)
    assert line["on_time_by_budget"] == {"5 ms": 0.5, "30 ms": 0.5}


def results() -> dict[str, Any]:
    """What a run of two contenders comes to, one of which failed."""
    line = judged([shot(5.0, 4.0), shot(5.0, 9.0)], {ARM: 0.8}) | {"cpu_ms": 1.25}
    both = {"one": [load(300.0)], "eight": [load(600.0)]}
    setup = {"setup": "as it <comes>", "version": "1.2.3", "tried": {1: 500.0}, "failed": ""}
    return {
        "arm": ARM,
        "photo_bytes": 107_000,
        "rounds": 1,
        "machine": "A Processor x 2",
        "date": "2030-01-02",
        "same_artifact": {"rows": rows({OURSELVES: both, "mosec": both})},
        "mixed": {
            "rows": mixed_rows({(OURSELVES, "", 50.0): [line], ("mosec", ARM, 50.0): [line]})
        },
        "setups": {
            "mosec": setup,
            "ray": setup | {"tried": {}, "failed": "Ray Serve gave no answer"},
        },
    }


@pytest.fixture(params=[page.markdown, page.html])
def written(request: pytest.FixtureRequest) -> str:
    return str(request.param(results()))


def test_a_page_says_all_that_is_needed_to_judge_it(written: str) -> None:
    """Machine, date, versions, settings, figures, and who could not be measured and why."""
    for text in ("A Processor x 2", "2030-01-02", "1.2.3", "1: 500/s", "Ray Serve gave no answer"):
        assert text in written
    for text in ("600", "50.0%", "40.0%", "what fits", ARM, "50 requests a second"):
        assert text in written


def test_a_page_quotes_what_is_no_markup() -> None:
    """Reasons come from other programs."""
    assert "as it &lt;comes&gt;" in page.html(results())


def test_without_mixed_budgets_the_page_leaves_them_out() -> None:
    """A part that was not measured is no empty table."""
    found = results() | {"mixed": {"rows": []}}

    titles = [part.title for part in page.sections(found)]

    assert titles == ["The same artifact behind every server", "How each was run"]


def test_a_contender_of_another_number_of_workers_is_another_title() -> None:
    """Progress and failures name the setting."""
    one = entrant(stub())

    assert one.title == "Stub, 1 workers"
    assert replace(one, workers=0).title == "Stub"
