"""Ten thousand good, bad, oversized and abandoned requests over both protocols, then the books.

Three things have to hold: memory flat, open files flat, and every request in /metrics.

    python -m loadtests.soak --requests 10000

Starts a server of its own on free ports.
"""

import argparse
import asyncio
import random
import statistics
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from prometheus_client.parser import text_string_to_metric_families

from loadtests import report
from loadtests.aio import Client, GrpcClient, HttpClient
from loadtests.asks import Ask, mixed, photos
from loadtests.flags import add_photos, command_line, count
from loadtests.servers import HOST, Server, our_server

BODY_LIMIT_BYTES = 300_000
CALLERS = 16
SAMPLES = 40
MAX_REQUESTS = 100_000
RSS_GROWTH_LIMIT_BYTES = 16 << 20
"""Between the second and the last quarter: allocators breathe, leaks grow."""
SPARE_FILES = 2
ANSWERED = frozenset({"on_time", "late"})
ENDED = ANSWERED | {"refused", "expired", "shed"}


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to use or misuse the service."""

    name: str
    weight: int
    image: bytes
    ask: Ask | None
    """None draws a good one."""
    allowed: frozenset[str]
    """Outcomes that are right for it."""
    leaves: bool = False


@dataclass(slots=True)
class Books:
    """What the callers saw, and the samples taken meanwhile."""

    sent: Counter[str] = field(default_factory=Counter)
    """By transport."""
    left: Counter[str] = field(default_factory=Counter)
    """Abandoned by their callers, by transport."""
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    rss_bytes: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)


def kinds(photo: bytes) -> list[Kind]:
    """The mix; `error` is what a caller sees when an oversized body is cut off."""
    invalid = frozenset({"invalid"})
    too_large = frozenset({"invalid", "refused", "error"})
    return [
        Kind("good", 50, photo, None, ENDED),
        Kind("pinned to what is not there", 4, photo, Ask(variant="no_such@1"), invalid),
        Kind("budget below zero", 4, photo, Ask(budget_ms=-1.0), invalid),
        Kind("impossible budget", 6, photo, Ask(0.01, "refuse"), frozenset({"refused"})),
        Kind("truncated picture", 8, photo[: len(photo) // 2], Ask(), invalid | ENDED),
        Kind("no picture", 6, b"not a picture at all" * 50, Ask(), invalid),
        Kind("empty", 2, b"", Ask(), invalid),
        Kind("too many pixels", 4, _huge_png(), Ask(), too_large),
        Kind("oversized", 4, photo + bytes(BODY_LIMIT_BYTES), Ask(), too_large),
        Kind("abandoned", 12, photo, None, frozenset({"cancelled"}), leaves=True),
    ]


def _huge_png() -> bytes:
    """A well-formed header that promises 3.6 thousand million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + bytes(64)


async def soak(server: Server, *, requests: int, seed: int, pictures: Sequence[bytes]) -> Books:
    """Send the mix with a bounded number of callers; every caller has its own seed."""
    books = Books()
    clients: dict[str, Client] = {
        "http": HttpClient(HOST, server.port),
        "grpc": GrpcClient(HOST, server.grpc_port),
    }
    each = max(1, requests // CALLERS)
    async with asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            transport = "grpc" if caller % 2 else "http"
            mix = kinds(pictures[caller % len(pictures)])
            rng = random.Random(seed + caller)
            task = _call(clients[transport], transport, mix, rng, books=books, requests=each)
            group.create_task(task)
        group.create_task(_sample(server, books, total=each * CALLERS))
    for client in clients.values():
        await client.close()
    return books


async def _call(
    client: Client,
    transport: str,
    mix: Sequence[Kind],
    rng: random.Random,
    *,
    books: Books,
    requests: int,
) -> None:
    asks = mixed(rng)
    for kind in rng.choices(mix, [kind.weight for kind in mix], k=requests):
        ask = kind.ask or next(asks)
        books.sent[transport] += 1
        if kind.leaves:
            books.left[transport] += 1
            share = rng.choice((0.5, 1.0))
            wait_s = rng.uniform(0.001, 0.006)
            answer = await client.leave(kind.image, ask, after_s=wait_s, sent=share)
        else:
            answer = await client.classify(kind.image, ask)
        books.outcomes[answer.outcome] += 1
        if answer.outcome not in kind.allowed:
            books.wrong[f"{transport}: {kind.name} ended {answer.outcome}"] += 1


async def _sample(server: Server, books: Books, *, total: int) -> None:
    done = 0
    while done < SAMPLES:
        if books.sent.total() >= total * (done + 1) // (SAMPLES + 1):
            books.rss_bytes.append(server.process.memory_info().rss)
            books.files.append(server.process.num_fds())
            done += 1
        await asyncio.sleep(0.02)


def counted(server: Server) -> Counter[tuple[str, str]]:
    """Requests in /metrics by transport and outcome."""
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(server.get("/metrics").decode()):
        for sample in family.samples:
            if sample.name == "mnv4serve_requests_total":
                key = (sample.labels["transport"], sample.labels["outcome"])
                found[key] += int(sample.value)
    return found


def failures(books: Books, counts: Counter[tuple[str, str]], files_after: int) -> list[str]:
    """Every way in which the service did not hold, as sentences."""
    found = [f"{text}, {count} times" for text, count in books.wrong.items()]
    for transport, sent in books.sent.items():
        total = sum(count for (name, _), count in counts.items() if name == transport)
        # A cancelled call may die in the caller's own library before it was ever sent.
        lowest = sent - books.left[transport] if transport == "grpc" else sent
        if not lowest <= total <= sent:
            found.append(f"{transport}: {sent} requests sent, {total} in the metrics")
    quarter = len(books.rss_bytes) // 4
    early = statistics.median(books.rss_bytes[quarter : 2 * quarter])
    growth = statistics.median(books.rss_bytes[-quarter:]) - early
    if growth > RSS_GROWTH_LIMIT_BYTES:
        found.append(f"memory grew by {growth / 1e6:.0f} MB")
    if files_after > min(books.files) + SPARE_FILES:
        found.append(f"{files_after} files open after all callers left, {min(books.files)} before")
    return found


async def _settled_files(server: Server) -> int:
    """Open files once the closed connections are gone."""
    lowest: int = server.process.num_fds()
    for _ in range(30):
        await asyncio.sleep(0.1)
        lowest = min(lowest, server.process.num_fds())
    return lowest


def parser() -> argparse.ArgumentParser:
    flags = command_line("loadtests.soak", __doc__)
    flags.add_argument("--requests", type=count, default=10_000, help="in all; default %(default)s")
    flags.add_argument("--seed", type=int, default=0, help="of the mix")
    add_photos(flags)
    return flags


def main() -> None:
    options = parser().parse_args()
    pictures = [p for p in photos(options.photos) if len(p) < BODY_LIMIT_BYTES]
    requests = min(options.requests, MAX_REQUESTS)
    with our_server({"MNV4SERVE_MAX_BODY_BYTES": str(BODY_LIMIT_BYTES)}) as server:
        before = counted(server)
        run = soak(server, requests=requests, seed=options.seed, pictures=pictures)
        books = asyncio.run(run)
        files_after = asyncio.run(_settled_files(server))
        counts = counted(server)
        counts.subtract(before)
        wrong = failures(books, counts, files_after)
    _show(books, counts, files_after)
    named = {" ".join(key): count for key, count in counts.items()}
    report.save("soak", {"books": _plain(books), "counted": named, "failures": wrong})
    if wrong:
        raise SystemExit("\n".join(wrong))


def _plain(books: Books) -> dict[str, object]:
    values = {one.name: getattr(books, one.name) for one in fields(books)}
    return {k: dict(v) if isinstance(v, Counter) else v for k, v in values.items()}


def _show(books: Books, counts: Counter[tuple[str, str]], files_after: int) -> None:
    rows = [(transport, outcome, count) for (transport, outcome), count in sorted(counts.items())]
    report.table("Requests in the metrics", ("transport", "outcome", "requests"), rows)
    rss = [value / 1e6 for value in books.rss_bytes]
    report.console.print(
        f"sent {books.sent.total()}; memory {rss[len(rss) // 4]:.0f} MB after a quarter,"
        f" {rss[-1]:.0f} MB at the end; open files {min(books.files)} to {max(books.files)},"
        f" {files_after} after all callers left"
    )


if __name__ == "__main__":
    main()
