"""Everything that opens a file of unknown origin, in a process of its own: some kill their runtime.

python -m mnv4serve.build.foreign.child RESULT.json < task.json

The parent gets a result or one sentence, whatever happens to the child.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from mnv4serve.errors import CatalogError, MnvError

TIMEOUT_S = 180.0
MEMORY_SHARE = 0.75
"""Of this machine's memory, which a hostile file may want many times over."""
LEAST_BYTES = 6 << 30
"""Runtimes reserve far more addresses than they use, also on small machines."""
_COMMAND = (sys.executable, "-m", "mnv4serve.build.foreign.child")
_LONGEST = 300
_STEP = b"step\n"

Task = Mapping[str, Any]
Steps = Callable[[int], None]
"""Told how many steps are done."""


def ask(
    task: Task,
    *,
    subject: Path,
    steps: Steps | None = None,
    timeout_s: float = TIMEOUT_S,
    command: tuple[str, ...] = _COMMAND,
) -> Any:  # noqa: ANN401  # whatever the task gives
    """The result of a task; raises CatalogError in every other case, however it ends."""
    with tempfile.TemporaryDirectory() as folder:
        result, complaints = Path(folder) / "result.json", Path(folder) / "stderr"
        with complaints.open("wb") as stderr:
            code = _run(
                (*command, str(result)), json.dumps(task).encode(), stderr, steps, timeout_s
            )
        if code == 0:
            answer = json.loads(result.read_bytes())
            if "refused" in answer:
                raise CatalogError(answer["refused"])
            return answer["result"]
        last = complaints.read_bytes().decode(errors="replace").strip().splitlines()[-1:]
    raise CatalogError(f"{subject}: {_ending(code, ''.join(last)[:_LONGEST], timeout_s)}")


def _run(
    command: tuple[str, ...],
    task: bytes,
    stderr: IO[bytes],
    steps: Steps | None,
    timeout_s: float,
) -> int | None:
    """The child's exit code, None where it had to be stopped."""
    late = threading.Event()
    with subprocess.Popen(  # noqa: S603  # our own interpreter
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
    ) as child:

        def stop() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            _hand_over(child.stdin, task)
            done = 0
            for line in child.stdout:
                done += line == _STEP
                if steps and line == _STEP:
                    steps(done)
        except BaseException:
            child.kill()
            raise
        finally:
            timer.cancel()
    return None if late.is_set() else child.returncode


def _hand_over(stream: IO[bytes], task: bytes) -> None:
    try:
        stream.write(task)
        stream.close()
    except BrokenPipeError:  # it died before it listened: its exit code tells
        pass


def _ending(code: int | None, last: str, timeout_s: float) -> str:
    if code is None:
        return f"its runtime does not get done with it within {timeout_s:.0f} s"
    if code < 0:
        return f"its runtime dies of it by signal {-code}: the file is damaged or not supported"
    return f"it cannot be looked at ({last})"


def _limit_memory() -> None:
    """Let a file that wants too much fail alone, rather than the machine with it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = max(int(total * MEMORY_SHARE), LEAST_BYTES)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    from mnv4serve.build.foreign.tasks import TASKS  # noqa: PLC0415  # imports the runtimes

    _limit_memory()
    task = json.load(sys.stdin)
    steps = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what runtimes print is no step
    try:
        answer = {"result": TASKS[task["task"]](task, lambda: steps.write(_STEP))}
    except MnvError as error:
        answer = {"refused": str(error)}
    except MemoryError:
        answer = {"refused": f"{task['path']} wants more memory than this machine has"}
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
