"""Running a .tflite file of unknown origin once, in a process of its own: some kill the runtime.

python -m mnv4serve.backends.litert_trial FILE.tflite
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mnv4serve.backends import litert_file
from mnv4serve.backends.flatbuffer import Malformed

TIMEOUT_S = 30.0
_COMMAND = (sys.executable, "-m", "mnv4serve.backends.litert_trial")
_LONGEST = 200


def trouble(path: Path, *, command: Sequence[str] = _COMMAND) -> str:
    """Why LiteRT cannot run a file, in words; empty where it can.

    The file is read first, which finds most lies, and run only then.
    """
    try:
        litert_file.read(path.read_bytes())
    except OSError as error:
        return f"it cannot be read, {error.strerror}"
    except Malformed as error:
        return str(error)
    try:
        done = subprocess.run(  # noqa: S603
            [*command, str(path)], capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"LiteRT does not get done with it within {TIMEOUT_S:.0f} s"
    if done.returncode < 0:
        return f"LiteRT dies of it by signal {-done.returncode}"
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f"LiteRT refuses it, {''.join(last)[:_LONGEST]}" if done.returncode else ""


def main() -> None:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(sys.argv[1], num_threads=1)
    interpreter.allocate_tensors()
    interpreter.invoke()
    for output in interpreter.get_output_details():
        interpreter.get_tensor(output["index"])


if __name__ == "__main__":
    main()
