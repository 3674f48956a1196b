"""The work of one request, the same behind every peer: this project's decoding and artifact."""

import os
import signal
import sys
from dataclasses import dataclass

from loadtests.bare import Bare, open_bare

ARM, PORT, WORKERS = "PEERS_ARM", "PEERS_PORT", "PEERS_WORKERS"
HOST = "127.0.0.1"
THREADS = 1
"""Of one inference: two workers then fill two cores."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a peer is started with; its own processes inherit it as environment variables."""

    arm: str
    port: int
    workers: int

    def environment(self) -> dict[str, str]:
        return {ARM: self.arm, PORT: str(self.port), WORKERS: str(self.workers)}


def asked() -> Asked:
    """Read in a process of the peer."""
    return Asked(os.environ[ARM], int(os.environ[PORT]), int(os.environ[WORKERS]))


def end_on_sigterm() -> None:
    """Leave by an exception, so that temporary folders are removed and programs ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


class Work:
    """A loaded artifact for one caller at a time."""

    def __init__(self, bare: Bare, arm: str) -> None:
        self._bare = bare
        self._arm = arm

    def __call__(self, image: bytes) -> dict[str, object]:
        """Bytes to the document that every load client reads."""
        predictions = [
            {"label": p.label, "index": p.index, "probability": p.probability}
            for p in self._bare.classify(image)
        ]
        return {"predictions": predictions, "arm": self._arm, "on_time": True}


def open_work() -> Work:
    """The arm that the peer was asked to serve."""
    arm = asked().arm
    return Work(open_bare(arm, threads=THREADS), arm)
