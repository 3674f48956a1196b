"""What load is made of: photos, the terms asked for, and what came back."""

import ipaddress
import os
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "models" / "examples" / "golf_ball.jpg"
PHOTOS_VARIABLE = "LOADTESTS_PHOTOS"
BUDGETS_MS = (5.0, 10.0, 30.0, 100.0)
BUDGET_WEIGHTS = (3, 4, 2, 1)
REFUSE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Ask:
    """The terms of one request; what is None is left to the service."""

    budget_ms: float | None = None
    on_miss: str | None = None
    variant: str | None = None
    backend: str | None = None

    def query(self) -> str:
        """The HTTP query with its question mark, empty where nothing is asked."""
        named = {
            "budget_ms": self.budget_ms,
            "on_miss": self.on_miss,
            "variant": self.variant,
            "backend": self.backend,
        }
        given = {name: value for name, value in named.items() if value is not None}
        return f"?{urlencode(given)}" if given else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request ended, in the words of the service's own outcomes."""

    outcome: str
    arm: str = ""
    """Empty where nothing ran."""


HTTP_OUTCOMES = {
    **dict.fromkeys((400, 401, 408, 413, 415), "invalid"),
    **dict.fromkeys((422, 429), "refused"),
    503: "shed",
    504: "expired",
}
GRPC_OUTCOMES = {
    **dict.fromkeys(("INVALID_ARGUMENT", "UNAUTHENTICATED", "OUT_OF_RANGE"), "invalid"),
    **dict.fromkeys(("FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"), "refused"),
    "UNAVAILABLE": "shed",
    "DEADLINE_EXCEEDED": "expired",
    "CANCELLED": "cancelled",
}


def mixed(rng: random.Random, *, refuse_share: float = REFUSE_SHARE) -> Iterator[Ask]:
    """Endless asks with the budgets people have: video frames, screens, background work.

    `refuse_share` of them would rather be refused than answered late.
    """
    while True:
        (budget_ms,) = rng.choices(BUDGETS_MS, BUDGET_WEIGHTS)
        yield Ask(budget_ms, "refuse" if rng.random() < refuse_share else "degrade")


def photos(folder: str | None = None) -> tuple[bytes, ...]:
    """The JPEGs of a folder, of `LOADTESTS_PHOTOS`, or the example picture alone."""
    named = folder or os.environ.get(PHOTOS_VARIABLE)
    if not named:
        return (EXAMPLE.read_bytes(),)
    paths = sorted(p for p in Path(named).glob("*") if p.suffix.lower() in {".jpg", ".jpeg"})
    if not paths:
        raise SystemExit(f"{named} holds no .jpg or .jpeg file: name a folder of photos")
    return tuple(path.read_bytes() for path in paths)


def photo_of_size(pictures: Sequence[bytes], wanted_bytes: int = 107_000) -> bytes:
    """The photo nearest to the usual size of a 500x375 JPEG."""
    return min(pictures, key=lambda picture: abs(len(picture) - wanted_bytes))


def only_loopback(host: str) -> str:
    """The host, refused where it is any other machine: load is for one's own."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise SystemExit(f"{host} is no host that is known here: name 127.0.0.1") from error
    for *_, address in found:
        if not ipaddress.ip_address(address[0]).is_loopback:
            raise SystemExit(f"{host} is not this machine: load tests run against loopback only")
    return host
