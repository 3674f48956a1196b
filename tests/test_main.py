"""The console script before there is a command line."""

import signal
import subprocess
import sys

INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "mnv4serve.cli":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from mnv4serve.__main__ import run
run()
"""


def test_ctrl_c_while_modules_are_imported_shows_no_traceback() -> None:
    """The process ends by the signal, as a shell expects, and says nothing."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == -signal.SIGINT
    assert (done.stdout, done.stderr) == ("", "")


def test_what_the_system_refuses_is_one_sentence() -> None:
    """Also where no code of ours expected it, as with a name longer than any file may have."""
    folder = "x" * 300

    done = subprocess.run(
        [sys.executable, "-m", "mnv4serve", "certify", "conv_small", "--data", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {folder}")
    assert "Traceback" not in done.stderr
