"""Google's Edge TPU compiler, where it is installed: run, its log read, half measures refused."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mnv4serve.artifacts import EDGETPU_COMPILER
from mnv4serve.backends.edgetpu import COMPILED, REASON
from mnv4serve.errors import ArtifactMismatch

TIMEOUT_S = 300
MAPPED = "Mapped to Edge TPU"
ABSENT = (
    f"{EDGETPU_COMPILER} is not on PATH: install it from Coral's package repository (Linux on "
    "x86-64 only) and build again"
)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_OPERATOR = re.compile(r"^([A-Z][A-Z0-9_]*)\s+(\d+)\s+(\S.*)$", re.MULTILINE)
_SUBGRAPHS = re.compile(r"Number of Edge TPU subgraphs: (\d+)")
_SIZE = re.compile(r"^(On-chip|Off-chip) memory used .*: ([\d.]+)(B|[KMG]iB)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Report:
    """What the compiler says it did."""

    subgraphs: int
    cached_bytes: int
    streamed_bytes: int
    """Weights that are sent for every picture, because they do not fit on the chip."""
    elsewhere: tuple[str, ...]
    """Operators that stay on the processor, with the compiler's reason."""


def compile_beside(path: Path) -> tuple[Path, ...]:
    """Compile an int8 file; the compiled one, or one that says why there is none.

    Raises ArtifactMismatch where the compiler fails or leaves operators to the processor.
    """
    compiler = shutil.which(EDGETPU_COMPILER)
    if compiler is None:
        note = path.with_name(REASON)
        note.write_text(ABSENT + "\n", encoding="utf-8")
        return (note,)
    command = [compiler, "-s", "-o", str(path.parent), str(path)]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactMismatch(f"{compiler} did not end within {TIMEOUT_S} s") from error
    compiled = path.with_name(COMPILED)
    if done.returncode or not compiled.is_file():
        said = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise ArtifactMismatch(f"{compiler} failed: {' '.join(said) or 'without a word'}")
    require_whole(parse_log(done.stdout))
    return (compiled,)


def parse_log(text: str) -> Report:
    """The compiler's summary as it prints it with `-s`."""
    subgraphs = _SUBGRAPHS.search(text)
    if subgraphs is None:
        raise ArtifactMismatch("the Edge TPU compiler's log has another form than version 16's")
    sizes = {where: round(float(n) * _UNITS[unit]) for where, n, unit in _SIZE.findall(text)}
    return Report(
        subgraphs=int(subgraphs[1]),
        cached_bytes=sizes.get("On-chip", 0),
        streamed_bytes=sizes.get("Off-chip", 0),
        elsewhere=tuple(
            f"{count} {name}: {status.strip()}"
            for name, count, status in _OPERATOR.findall(text)
            if status.strip() != MAPPED
        ),
    )


def require_whole(report: Report) -> None:
    """Raise ArtifactMismatch unless the chip runs the whole network in one go."""
    if report.elsewhere:
        raise ArtifactMismatch(
            f"the Edge TPU compiler leaves operators to the processor, {report.elsewhere[0]}"
        )
    if report.subgraphs != 1:
        raise ArtifactMismatch(f"the Edge TPU compiler made {report.subgraphs} parts instead of 1")
