"""How `serve` ends when it is told to before it was ready."""

import subprocess
import sys

import pytest

ENDING = """
import atexit, threading
from mnv4serve.cli.serve import end_measuring
from mnv4serve.serving.local import ASSEMBLING

atexit.register(print, "unloaded")
threading.Thread(target=threading.Event().wait, name=NAME, daemon=True).start()
end_measuring()
"""


@pytest.mark.parametrize(("name", "said"), [("ASSEMBLING", ""), ("'other'", "unloaded\n")])
def test_a_measurement_that_runs_is_not_unloaded_under(name: str, said: str) -> None:
    """Runtimes abort when Python takes them away while they work; any other end is the usual."""
    done = subprocess.run(
        [sys.executable, "-c", ENDING.replace("NAME", name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, said)
