"""The process that has an Edge TPU open: a driver that dies, as at an unplugged stick, dies alone.

    python -m mnv4serve.backends.edgetpu_owner FILE_NUMBER

The serving process never loads libedgetpu. It sends pictures and gets logits; when the owner ends,
the device is gone until another owner opens it.
"""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends.edgetpu_devices import Trouble, unavailable
from mnv4serve.backends.edgetpu_pycoral import pycoral_runtime
from mnv4serve.backends.litert import Lane, interpreter_module, open_interpreter
from mnv4serve.errors import ArtifactMismatch

TIMEOUT_S = 15.0
"""For opening, as a stick that needs its firmware takes some seconds; no run takes as long."""
END_S = 2.0
"""For letting go of the device, before it is made to."""


class Gone(Exception):  # no caller sees it: the device is looked at, and what is found is told
    """A device does not open, or fails while it runs."""


@dataclass(frozen=True, slots=True)
class Job:
    """Pictures for a model, which is only loaded where there are none."""

    path: Path
    pixels: NDArray[np.uint8]
    n_labels: int


class Owner:
    """One open device, as the process that uses it sees it."""

    def __init__(self, library: str, device: str, *, held: Sequence[int] = ()) -> None:
        """Open a device by libedgetpu's name for it (`:0`); `held` files stay open as long.

        Raises Gone where it does not open, BackendUnavailable where the library kills its process
        or does not come back.
        """
        self._pipe, theirs = Pipe()
        with theirs:
            file = theirs.fileno()
            self._process = subprocess.Popen(  # noqa: S603  # our own
                [sys.executable, "-m", __name__, str(file)],
                pass_fds=[file, *held],
                stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the parent, which ends both
            )
        try:
            opened = self._asked((library, device))
        except Gone as error:
            raise unavailable(self._why_not()) from error
        except BaseException:
            self.close()
            raise
        if not opened:
            self.close()
            raise Gone

    def run(self, job: Job) -> NDArray[np.float32]:
        """Logits, one row a picture; raises Gone when the device fails."""
        answer = self._asked(job)
        if isinstance(answer, ArtifactMismatch):
            raise answer
        assert isinstance(answer, np.ndarray)
        return answer

    def close(self) -> None:
        """Let go of the device, and wait until it is free."""
        self._pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _asked(self, request: object) -> object:
        try:
            self._pipe.send(request)
            if self._pipe.poll(TIMEOUT_S):
                return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise Gone from error
        raise Gone

    def _why_not(self) -> str:
        """What kept it from saying whether the device opens; nothing of it is left."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        code = self._process.returncode
        self.close()
        if code is None:
            return f"libedgetpu did not answer within {TIMEOUT_S:.0f} s"
        return Trouble.INCOMPATIBLE_RUNTIME if code < 0 else "libedgetpu cannot be tried, see above"


def serve(parent: Connection) -> None:
    """The owner's part, until the parent hangs up or the device fails."""
    library, device = parent.recv()
    coral = pycoral_runtime()
    runtime = coral[0] if coral else interpreter_module()
    try:
        delegate = runtime.load_delegate(library, {"device": device})
    except (ValueError, OSError):
        parent.send(False)  # noqa: FBT003
        return
    parent.send(True)  # noqa: FBT003
    answer = _Models(runtime, delegate)
    with suppress(RuntimeError):  # of the device: this process ends, and another opens it
        while True:
            parent.send(answer(parent.recv()))


class _Models:
    """What has been loaded on the device."""

    def __init__(self, runtime: ModuleType, delegate: Any) -> None:  # noqa: ANN401 - it has no type
        self._lanes: dict[Path, Lane] = {}
        self._runtime = runtime
        self._delegate = delegate

    def __call__(self, job: Job) -> NDArray[np.float32] | ArtifactMismatch:
        logits = np.empty((len(job.pixels), job.n_labels), np.float32)
        try:
            lane = self._lanes.get(job.path) or self._loaded(job.path)
        except ArtifactMismatch as error:
            return error
        for picture, answer in zip(job.pixels, logits, strict=True):
            lane.run(picture, answer)
        return logits

    def _loaded(self, path: Path) -> Lane:
        delegates = [self._delegate]
        self._lanes[path] = Lane(
            open_interpreter(path, 1, runtime=self._runtime, experimental_delegates=delegates)
        )
        return self._lanes[path]


if __name__ == "__main__":
    with suppress(EOFError, OSError):  # the parent has hung up
        serve(Connection(int(sys.argv[1])))
