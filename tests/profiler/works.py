"""Measurements that a child can be sent: they have to be importable by name."""

import os
import signal
import sys
import time

from mnv4serve.domain import Timing
from mnv4serve.errors import BackendUnavailable
from mnv4serve.profiler import Progress
from mnv4serve.profiler.store import Profile
from mnv4serve.router.decode_cost import DecodeCost


def succeed(*, progress: Progress) -> Profile:
    progress("first", 0, 2)
    progress("second", 1, 2)
    timing = Timing(1.0, 2.0, None, n=os.getpid())
    decode = DecodeCost(0.1, 0.0, 0.0, 0.0, 0.0)
    return Profile("f", "2026-01-01", True, 1, 1, {"arm": {1: timing}}, decode)  # noqa: FBT003


def refuse(*, progress: Progress) -> Profile:
    del progress
    raise BackendUnavailable("cuda", "it is somebody else's")


def die(*, progress: Progress) -> Profile:
    progress("the arm that crashes", 3, 9)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def leave(*, progress: Progress) -> Profile:
    del progress
    sys.exit(7)


def hang(*, progress: Progress) -> Profile:
    progress(str(os.getpid()), 0, 1)
    time.sleep(600)
    raise AssertionError
