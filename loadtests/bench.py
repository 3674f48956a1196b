"""What `make bench` runs: one caller, open-loop load, then overhead beside a plain server.

    python -m loadtests.bench --quick

Starts a server of its own on free ports. Further flags are those of loadtests.overhead.
"""

import argparse
import asyncio
from typing import Any

from loadtests import open_loop, overhead, report, sequential
from loadtests.aio import precise_loop
from loadtests.asks import photos
from loadtests.blocking import Client, GrpcClient, HttpClient
from loadtests.flags import add_photos, command_line
from loadtests.servers import HOST, Server, our_server

RATES = (50, 150)
QUICK = ("--rounds", "6", "--requests", "20", "--load-rounds", "1", "--seconds", "2")


def one_caller(server: Server, folder: str | None, *, requests: int) -> dict[str, Any]:
    """Every budget over both protocols."""
    clients: dict[str, Client] = {
        "http": HttpClient(HOST, server.port),
        "grpc": GrpcClient(HOST, server.grpc_port),
    }
    found = {}
    for name, client in clients.items():
        found[name] = sequential.by_budget(client, photos(folder), requests=requests)
        sequential.show(name, found[name])
        client.close()
    return found


def under_load(server: Server, folder: str | None, *, seconds: float) -> dict[str, Any]:
    """Poisson arrivals at a light and a heavy rate."""
    found = {}
    for rate in RATES:
        flags = ["--rate", str(rate), "--requests", str(round(rate * seconds))]
        flags += ["--port", str(server.port), *(["--photos", folder] if folder else [])]
        options = open_loop.parser().parse_args(flags)
        with asyncio.Runner(loop_factory=precise_loop) as runner:
            summary = open_loop.summary(runner.run(open_loop.run(options)))
        report.show_open_loop(f"poisson, {rate}/s, http", summary)
        found[f"{rate}/s"] = summary
    return found


def parser() -> argparse.ArgumentParser:
    flags = command_line("loadtests.bench", __doc__)
    flags.add_argument("--quick", action="store_true", help="a minute instead of several")
    add_photos(flags)
    return flags


def main() -> None:
    options, others = parser().parse_known_args()
    photo_flags = ["--photos", options.photos] if options.photos else []
    quick = list(QUICK) if options.quick else []
    more = overhead.parser().parse_args([*quick, *photo_flags, *others])
    with our_server() as server:
        found: dict[str, Any] = {"rss_bytes_idle": server.process.memory_info().rss}
        found["one_caller"] = one_caller(
            server, options.photos, requests=50 if options.quick else 300
        )
        found["open_loop"] = under_load(
            server, options.photos, seconds=5.0 if options.quick else 20.0
        )
    found["overhead"] = overhead.measure(more)
    overhead.show(found["overhead"])
    report.save("bench", found)


if __name__ == "__main__":
    main()
