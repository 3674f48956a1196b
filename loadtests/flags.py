"""The command line of a load test, and the server that some of them need."""

import argparse
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager

CONNECT_TIMEOUT_S = 5.0


def command_line(module: str, purpose: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's own text, its example included, as it was written."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=purpose,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_server(flags: argparse.ArgumentParser) -> None:
    """Flags that say where a server runs already."""
    flags.add_argument("--host", default="127.0.0.1", help="this machine only; default %(default)s")
    flags.add_argument("--port", type=int, default=8000, help="its HTTP port; default %(default)s")
    flags.add_argument(
        "--grpc-port", type=int, default=9000, help="its gRPC port; default %(default)s"
    )


def add_photos(flags: argparse.ArgumentParser) -> None:
    """The flag that says what is sent."""
    flags.add_argument("--photos", help="folder of JPEGs; LOADTESTS_PHOTOS or the example")


def count(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def positive(text: str) -> float:
    """A finite number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return number


@contextmanager
def reached(host: str, *ports: int) -> Iterator[None]:
    """Ends the run with one sentence where no server listens, or where it goes away later."""
    for port in ports:
        try:
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
        except (OSError, OverflowError) as error:
            raise SystemExit(
                f"nothing answers at {host}:{port}: start a server with `make serve`, or say where "
                "one runs, as --help tells"
            ) from error
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        raise SystemExit(f"the server at {host} went away during the run: {error}") from error
