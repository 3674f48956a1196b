"""Runs a measurement in a process of its own, which takes with it all that the runtimes keep.

A runtime that has loaded and freed dozens of networks holds on to a hundred megabytes and more;
a process that goes on to serve should not have loaded them.
"""

import os
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Thread
from typing import Protocol

from mnv4serve.errors import MnvError, ProfileError
from mnv4serve.profiler import Progress
from mnv4serve.profiler.store import Profile


class Work(Protocol):
    """A measurement that can be pickled and tells how far it is."""

    def __call__(self, *, progress: Progress) -> Profile: ...


def apart(work: Work, *, progress: Progress) -> Profile:
    """What `work` returns, measured by a child that never outlives this process.

    Raises what it raises of our errors, and ProfileError where the child ends without a word.
    """
    ours, theirs = Pipe()
    step = "its start"
    with ours, _child(theirs) as child:
        theirs.close()
        try:
            ours.send(work)
            while isinstance(told := ours.recv(), tuple):
                step = told[0]
                progress(*told)
        except (EOFError, OSError) as error:
            raise ProfileError(_ending(child.wait(), step)) from error
        finally:
            child.kill()
    if isinstance(told, MnvError):
        raise told
    assert isinstance(told, Profile)
    return told


def _child(theirs: Connection) -> subprocess.Popen[bytes]:
    """Of a process group of its own: Ctrl-C is for the parent, and ends both."""
    file = theirs.fileno()
    command = [sys.executable, "-m", __name__, str(file)]
    return subprocess.Popen(command, pass_fds=[file], process_group=0)  # noqa: S603  # our own


def _ending(code: int, step: str) -> str:
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return (
        f"the process that measures this machine ended with {how} at {step}: free some memory "
        "or leave that backend out of the pool"
    )


def serve(parent: Connection) -> None:
    """The child's part: run the work that is sent, tell each step and what came of it."""
    work: Work = parent.recv()
    Thread(target=_end_with, args=[parent], daemon=True).start()
    try:
        outcome: Profile | MnvError = work(progress=lambda *step: parent.send(step))
    except MnvError as error:
        outcome = error
    parent.send(outcome)


def _end_with(parent: Connection) -> None:
    """Nothing more is ever sent: reading ends when the parent does, also one that was killed."""
    try:
        parent.recv()
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
