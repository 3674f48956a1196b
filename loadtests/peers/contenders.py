"""Who takes part, how each is started, and what has to be known about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.peers.wire import OURS, RAW, TRITON, Wire

HANDLERS = "loadtests.peers.handlers"
OURSELVES = "mnv4serve"


@dataclass(frozen=True, slots=True)
class Contender:
    """One server in one configuration, but for the number of its workers."""

    name: str
    label: str
    environment: str
    """Requirement file; empty for this project's own environment."""
    command: tuple[str, ...]
    """Arguments of the interpreter, or of `mnv4serve serve`; `{port}` stands for the port."""
    wire: Wire
    workers: tuple[int, ...]
    """Settings to try; the one with the higher throughput is measured."""
    setup: str
    """How it is configured, for the reader of the results."""

    @property
    def ours(self) -> bool:
        """Whether it chooses the arm itself."""
        return self.wire is OURS


def _module(name: str) -> tuple[str, ...]:
    return "-m", f"{HANDLERS}.{name}_peer"


CONTENDERS = (
    Contender(
        OURSELVES, "mnv4serve", "", (), OURS, (0,),
        "local engine as `mnv4serve serve` starts it: slots and threads as it measures them",
    ),
    Contender(
        "mnv4serve-ray", "mnv4serve on Ray", "mnv4serve-ray", ("--engine", "ray"), OURS, (0,),
        "engine ray as `mnv4serve serve --engine ray` starts it",
    ),
    Contender(
        "mosec", "mosec", "mosec", _module("mosec"), RAW, (1, 2),
        "one stage, a process a worker, no batching",
    ),
    Contender(
        "triton", "Triton, Python backend", "triton", _module("triton"), TRITON, (1, 2),
        "tritonserver of nvidia-pytriton, an instance a worker, binary tensors over HTTP",
    ),
    Contender(
        "bentoml", "BentoML", "bentoml",
        ("-m", "bentoml", "serve", f"{HANDLERS}.bentoml_peer:Classify", "--host", "127.0.0.1",
         "--port", "{port}"),
        RAW, (1, 2), "`bentoml serve`, raw body as root input, no adaptive batching",
    ),
    Contender(
        "litserve", "LitServe", "litserve", _module("litserve"), RAW, (1, 2),
        "raw body, fast_queue, as many API servers as workers",
    ),
    Contender(
        "mlserver", "MLServer", "mlserver", _module("mlserver"), RAW, (1, 2),
        "parallel workers, a custom handler that takes the raw body",
    ),
    Contender(
        "ray", "Ray Serve", "ray", _module("ray"), RAW, (1, 2),
        "default settings, its workers' niceness included; a replica a worker",
    ),
    Contender(
        "starlette", "Starlette", "starlette", _module("starlette"), RAW, (1, 2),
        "the work inline on uvicorn with uvloop and httptools, a process a worker",
    ),
)  # fmt: skip


def chosen(names: Sequence[str]) -> tuple[Contender, ...]:
    """Those that were asked for, all of them without a name; exits on a name that is none."""
    known = {contender.name: contender for contender in CONTENDERS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"there is no {unknown[0]}: choose among {', '.join(known)}")
    return tuple(known[name] for name in names) or CONTENDERS
