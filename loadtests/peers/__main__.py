"""What `make peers` runs: mnv4serve beside other servers, on this machine, in one run.

    make peers ARGS="mnv4serve mosec triton --rounds 1 --seconds 3"
    python -m loadtests.peers mnv4serve mosec --check

Each is set up once in an environment of its own, which takes minutes.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtests import report
from loadtests.asks import EXAMPLE, Ask, photo_of_size, photos
from loadtests.bare import open_bare
from loadtests.blocking import HttpClient
from loadtests.flags import add_photos, command_line, count, positive
from loadtests.peers import page
from loadtests.peers.contenders import OURSELVES, Contender, chosen
from loadtests.peers.entrants import Effort, Entrant, Step, Task, started
from loadtests.peers.environments import PeerUnavailable, ensure, requirements
from loadtests.peers.mixed import Offered, mixed_budgets
from loadtests.peers.running import EVERY_ARM, Expected
from loadtests.peers.trial import same_artifact, tuned
from loadtests.peers.work import THREADS
from loadtests.servers import HOST, our_server
from mnv4serve.catalog import Zoo, load_catalog
from mnv4serve.cli.progress import progress_bar
from mnv4serve.domain import BackendName, Precision

BACKEND = BackendName.CPU
TIGHT_MS = 1.0
"""Nothing meets it, so mnv4serve runs the pinned variant at its fastest precision every time."""
QUICK = {"rounds": 1, "seconds": 1.0, "mixed_seconds": 2.0, "warm_up": 8}


@dataclass
class Field:
    """Who takes part, and why the others do not."""

    entrants: list[Entrant] = field(default_factory=list)
    tried: dict[str, dict[int, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def leave(self, contender: Contender, reason: object) -> None:
        self.failed[contender.name] = str(reason)
        report.console.print(f"without {contender.label}: {reason}", markup=False)


def main() -> None:
    options = _options()
    contenders = chosen(options.names)
    image = photo_of_size(photos(options.photos))
    variant = options.arm.partition("/")[0] or options.variant
    ask = Ask(TIGHT_MS, variant=variant, backend=BACKEND)
    arm = options.arm or _arm_of_ours(image, ask)
    task = Task(arm, ask, _expected(arm, image))
    n_steps = sum(1 + len(one.workers) + 2 * options.rounds for one in contenders)
    with progress_bar("peers") as advance:
        done = iter(range(1, 10 * n_steps))
        effort = Effort(
            rounds=options.rounds,
            seconds=options.seconds,
            warm_up=options.warm_up,
            step=lambda what: advance(what, min(next(done), n_steps), n_steps),
        )
        running = _field(contenders, task, effort, check=options.check)
        if options.check:
            _tell_checked(running)
            return
        found = _measured(running, options, effort)
    found |= {"arm": arm, "photo_bytes": len(image), "setups": _setups(contenders, running)}
    _publish(found | {"rounds": options.rounds})


def _field(contenders: Sequence[Contender], task: Task, effort: Effort, *, check: bool) -> Field:
    """Everybody who can be installed, started and tuned; only started once where `check`."""
    found = Field()
    for contender in contenders:
        try:
            entrant = _entrant(contender, task, effort.step)
            if check:
                _answers(entrant, effort)
                found.entrants.append(entrant)
                continue
            best, found.tried[contender.name] = tuned(entrant, effort)
            found.entrants.append(best)
        except PeerUnavailable as error:
            found.leave(contender, error)
    return found


def _entrant(contender: Contender, task: Task, step: Step) -> Entrant:
    step(f"environment of {contender.label}")
    interpreter = Path(sys.executable)
    if contender.environment:
        interpreter = ensure(contender.environment, tell=report.console.print)
    return Entrant(contender, interpreter, task, contender.workers[0])


def _answers(entrant: Entrant, effort: Effort) -> None:
    for workers in entrant.contender.workers:
        candidate = replace(entrant, workers=workers)
        effort.step(f"asking {candidate.title}")
        with started(candidate, warm_up=effort.warm_up):
            pass


def _tell_checked(found: Field) -> None:
    right = ", ".join(entrant.contender.label for entrant in found.entrants)
    report.console.print(f"answered right with every number of workers: {right or 'nobody'}")
    if found.failed:
        raise SystemExit(1)


def _measured(running: Field, options: argparse.Namespace, effort: Effort) -> dict[str, Any]:
    _, zoo = load_catalog().zoo()
    accuracy = dict(_accuracies(zoo))
    static = options.static or [_most_accurate(accuracy, options.variant)]
    same = same_artifact(running.entrants, effort)
    running.failed |= same["failed"]
    offered = Offered(photos(options.photos), options.rates, accuracy)
    mixed_effort = replace(
        effort,
        seconds=options.mixed_seconds,
        step=lambda what: effort.step(f"mixed budgets, {what}"),
    )
    mixed = mixed_budgets(list(_mixed_entrants(running, static)), offered, mixed_effort)
    running.failed |= mixed["failed"]
    return {"same_artifact": same, "mixed": mixed, "static": static}


def _mixed_entrants(running: Field, static: Sequence[str]) -> Iterator[Entrant]:
    """Peers with each static arm; mnv4serve once, as it comes.

    Asked for what every arm agrees about, as a stranger's picture is not.
    """
    for entrant in running.entrants:
        if entrant.contender.ours:
            any_arm = replace(_expected(static[0], EXAMPLE.read_bytes()), arms=frozenset())
            yield replace(entrant, task=Task("", Ask(), any_arm))
            continue
        for arm in static:
            yield replace(entrant, task=Task(arm, Ask(), _expected(arm, EXAMPLE.read_bytes())))


def _arm_of_ours(image: bytes, ask: Ask) -> str:
    """What mnv4serve runs for the ask, which every peer is then given."""
    with our_server(EVERY_ARM) as server, HttpClient(HOST, server.port) as client:
        arm = client.classify(image, ask).arm
    if not arm:
        raise SystemExit(f"{ask.variant} was not served: name another --variant")
    return arm


def _expected(arm: str, image: bytes) -> Expected:
    bare = open_bare(arm, threads=THREADS)
    best = bare.classify(image)[0]
    bare.backend.close()
    return Expected(image, best.label, best.probability, frozenset({arm}))


def _accuracies(zoo: Zoo) -> Iterator[tuple[str, float]]:
    for variant in zoo.variants:
        for backend in BackendName:
            for precision in Precision:
                accuracy = variant.accuracy(backend, precision)
                if accuracy is not None:
                    yield f"{variant.name}/{backend}/{precision}/cpu", accuracy


def _most_accurate(accuracy: dict[str, float], variant: str) -> str:
    """The static model that a thoughtful user would serve: of the same architecture and runtime."""
    architecture = variant.partition("@")[0]
    known = [
        arm for arm in accuracy if arm.startswith(f"{architecture}@") and f"/{BACKEND}/" in arm
    ]
    return max(known, key=lambda arm: accuracy[arm])


def _setups(contenders: Sequence[Contender], running: Field) -> dict[str, dict[str, Any]]:
    return {
        one.name: {
            "setup": one.setup,
            "version": _version(one),
            "tried": running.tried.get(one.name, {}),
            "failed": running.failed.get(one.name, ""),
        }
        for one in contenders
    }


def _version(contender: Contender) -> str:
    if contender.ours:
        return version(OURSELVES)
    return requirements(contender.environment)[0]


def _publish(found: dict[str, Any]) -> None:
    found |= {"machine": report.processor(), "date": time.strftime("%Y-%m-%d")}
    for part in page.sections(found):
        report.table(part.title, part.columns, part.rows)
    saved = report.save("peers", found)
    saved.with_suffix(".md").write_text(page.markdown(found), "utf-8")
    saved.with_suffix(".html").write_text(page.html(found), "utf-8")
    report.console.print(f"[dim]and {saved.stem}.md and .html beside it[/dim]")


def _options() -> argparse.Namespace:
    flags = command_line("loadtests.peers", __doc__)
    flags.add_argument("names", nargs="*", help="only these; everybody without a name")
    flags.add_argument("--check", action="store_true", help="ask each once, measure nothing")
    flags.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    flags.add_argument("--variant", default="conv_small@224", help="the same artifact for all")
    flags.add_argument(
        "--arm", default="", help="the artifact by its whole id; else the variant's fastest one"
    )
    flags.add_argument(
        "--static", action="append", metavar="ARM",
        help="what peers serve under mixed budgets; the most accurate of the architecture",
    )  # fmt: skip
    flags.add_argument(
        "--rates", type=positive, nargs="+", default=[150.0, 300.0, 500.0],
        help="requests a second under mixed budgets",
    )  # fmt: skip
    flags.add_argument("--rounds", type=count, default=3, help="default %(default)s")
    flags.add_argument("--seconds", type=positive, default=4.0, help="of each closed-loop load")
    flags.add_argument("--mixed-seconds", type=positive, default=10.0, help="of an open-loop load")
    flags.add_argument("--warm-up", type=int, default=48, help="requests")
    add_photos(flags)
    options = flags.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return options


if __name__ == "__main__":
    main()
