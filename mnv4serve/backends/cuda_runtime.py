"""What the `cuda` backend asks of a GPU: pinned memory, streams, graphs and compiled kernels."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mnv4serve.backends.cuda_buckets import OutOfMemory
from mnv4serve.domain import BackendName
from mnv4serve.errors import DeviceLost

logger = logging.getLogger(__name__)

Network = Callable[[Tensor], Tensor]
CACHE = "inductor"
_CAPTURING = threading.Lock()
"""CUDA captures one graph at a time in a process."""


class Stream(Protocol):
    """Work of one slot in the order it is given."""

    def current(self) -> AbstractContextManager[object]:
        """Within it PyTorch gives its work to this stream."""
        ...

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """What replays a run's kernels at once, and where it leaves its result each time."""
        ...

    def wait(self) -> None:
        """Return when all that was given to it is done."""
        ...


class Runtime(Protocol):
    """One device; tests put the processor in its place."""

    device: torch.device

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Host memory that the device copies from and to by itself."""
        ...

    def stream(self) -> Stream: ...

    def compiled(self, network: Network) -> Network: ...

    def release(self) -> None:
        """Give memory that nothing uses any more back to the device."""
        ...


class CudaRuntime:
    """An NVIDIA GPU."""

    def __init__(self, number: int, cache: Path) -> None:
        self.device = torch.device("cuda", number)
        keep_kernels(cache)
        torch.backends.cudnn.benchmark = True
        # What is certified as fp32 is computed as fp32.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def stream(self) -> Stream:
        return _CudaStream(self.device)

    def compiled(self, network: Network) -> Network:
        """Fused by Inductor where it can be: once for single pictures, once for all batches."""
        if find_spec("triton") is None:
            logger.warning("cuda_not_compiled", extra={"reason": "Triton is not installed"})
            return network
        return _Compiled(network)

    def release(self) -> None:
        torch.cuda.empty_cache()


class _CudaStream:
    """A stream with the memory that its graphs share, for they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Spinning would take the core from the pictures that other slots decode.
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def current(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream)

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        self._stream.synchronize()
        # Other threads go on meanwhile: only this one's mistakes spoil the capture.
        with (
            _CAPTURING,
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            result = run()
        return graph.replay, result

    def wait(self) -> None:
        self._done.record(self._stream)
        self._done.synchronize()


class _Compiled:
    """A compiled network that goes on as it was written where it cannot be compiled."""

    def __init__(self, network: Network) -> None:
        self._plain = network
        self._run: Network = torch.compile(network)

    def __call__(self, pixels: Tensor) -> Tensor:
        try:
            return self._run(pixels)
        except torch._dynamo.exc.TorchDynamoException as error:  # noqa: SLF001 - it has no other name
            reason = " ".join(str(error).split())[:500]
            logger.warning("cuda_not_compiled", extra={"reason": reason})
            self._run = self._plain
            return self._plain(pixels)


def keep_kernels(cache: Path) -> None:
    """Have Inductor keep what it compiles in a folder, unless the user has named another."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))


@contextmanager
def told_apart() -> Iterator[None]:
    """Failures of the device as OutOfMemory or DeviceLost; others, of a network, as they are.

    An error that CUDA reports stays for the rest of the process, so the device is lost to it.
    """
    try:
        yield
    except RuntimeError as error:
        if _caused_by(error, torch.OutOfMemoryError):
            raise OutOfMemory from error
        if _caused_by(error, torch.AcceleratorError) or _from_a_library(error):
            reason = " ".join(str(error).split())[:200]
            raise DeviceLost(
                BackendName.CUDA, f"the GPU failed ({reason}): start the service again"
            ) from error
        raise


def _caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Also where a capture that the failure broke off was reported instead."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _from_a_library(error: RuntimeError) -> bool:
    """Libraries of CUDA report a broken device in words of their own."""
    text = str(error)
    return any(word in text for word in ("CUDA error", "cuDNN error", "CUDNN_STATUS"))
