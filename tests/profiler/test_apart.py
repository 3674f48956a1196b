"""Behaviour of mnv4serve.profiler.apart: a measurement in a process of its own."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from mnv4serve.errors import BackendUnavailable, ProfileError
from mnv4serve.profiler.apart import apart
from tests.profiler import works

ROOT = Path(__file__).parents[2]


def _silent(step: str, done: int, total: int) -> None:
    del step, done, total


def test_it_is_measured_elsewhere_and_told_here() -> None:
    """The result comes from another process; each step is told in this one, in order."""
    told: list[tuple[str, int, int]] = []

    profile = apart(works.succeed, progress=lambda *step: told.append(step))

    assert told == [("first", 0, 2), ("second", 1, 2)]
    assert profile.timings["arm"][1].n != os.getpid()


def test_an_error_of_ours_arrives_whole() -> None:
    """It is raised here as it was there, with all it carries."""
    with pytest.raises(BackendUnavailable, match="somebody else's") as caught:
        apart(works.refuse, progress=_silent)

    assert (caught.value.backend, caught.value.reason) == ("cuda", "it is somebody else's")


def test_a_runtime_that_kills_its_process_is_named() -> None:
    """The sentence has the step and the signal, and this process lives on."""
    with pytest.raises(ProfileError, match="SIGKILL at the arm that crashes"):
        apart(works.die, progress=_silent)


def test_a_child_that_just_leaves_is_an_error() -> None:
    """Without a result there is none, whatever the exit code."""
    with pytest.raises(ProfileError, match="exit code 7 at its start"):
        apart(works.leave, progress=_silent)


def test_an_interruption_ends_the_child() -> None:
    """What stops the waiting, as Ctrl-C does, is raised on once the child is gone."""

    def interrupt(step: str, done: int, total: int) -> None:
        del done, total
        children.append(int(step))
        raise KeyboardInterrupt

    children: list[int] = []

    with pytest.raises(KeyboardInterrupt):
        apart(works.hang, progress=interrupt)

    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_a_child_does_not_outlive_a_parent_that_was_killed() -> None:
    """It notices by itself, in the middle of a measurement."""
    code = (
        "from mnv4serve.profiler.apart import apart; from tests.profiler.works import hang;"
        "apart(hang, progress=lambda step, *_: print(step, flush=True))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watched = os.pidfd_open(child)

        parent.kill()

        ended, _, _ = select.select([watched], [], [], 30.0)
    os.close(watched)
    assert ended == [watched]
