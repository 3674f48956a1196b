"""ONNX Runtime on a CUDA GPU: one captured graph and one set of bound buffers per bucket.

A session captures a graph per `gpu_graph_id` and per thread, and its runs must not overlap: one
thread captures and replays for all slots.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends.cuda_buckets import Ladder, OutOfMemory, Run
from mnv4serve.domain import BackendName
from mnv4serve.errors import ArmDown, BackendUnavailable, DeviceLost

PROVIDER = "CUDAExecutionProvider"
WARM_UP_RUNS = 3
"""Before the run that captures, so that cuDNN has chosen its algorithms by then."""
_MEMORY = ("out of memory", "Failed to allocate memory", "BFCArena")
_BROKEN = ("CUDA failure", "CUDNN failure", "CUBLAS failure", "CUDA error")


def provider(number: int) -> tuple[str, dict[str, str]]:
    """The provider with the options that graphs and certified fp32 need."""
    return PROVIDER, {
        "device_id": str(number),
        "enable_cuda_graph": "1",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
    }


def load_libraries(runtime: ModuleType) -> None:
    """Load CUDA and cuDNN from the NVIDIA packages beside it, quiet about those it cannot find.

    What is missing is told when the session is created, which fails without it.
    """
    with redirect_stdout(io.StringIO()):
        runtime.preload_dlls()


class GpuLanes:
    """A session's buckets on a device, shared by all slots."""

    def __init__(
        self,
        runtime: ModuleType,
        session: Any,  # noqa: ANN401 - the runtime ships no types
        *,
        shape: tuple[int, ...],
        n_labels: int,
        device: str,
    ) -> None:
        self._runtime = runtime
        self._session = session
        self._shape = shape
        self._n_labels = n_labels
        kind, _, number = device.partition(":")
        self._place = (kind, int(number or "0"))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="onnx-gpu")
        try:
            self._ladder = self._thread.submit(Ladder, self._open).result()
        except OutOfMemory as error:
            reason = f"the network does not fit into the memory of {device}"
            raise BackendUnavailable(BackendName.ONNX, reason) from error

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that there is a graph for."""
        return self._ladder.sizes

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits of any number of pictures; raises DeviceLost once the GPU has failed."""
        try:
            return self._thread.submit(self._ladder.infer, pixels).result()
        except OutOfMemory as error:
            raise ArmDown(f"the memory of {self._place[0]}:{self._place[1]} is used up") from error

    def close(self) -> None:
        """Free the buffers and let the thread end, and with it its graphs."""
        self._thread.submit(self._ladder.close)
        self._thread.shutdown()
        self._session = None

    def _open(self, size: int) -> Run:
        staged = np.zeros((size, *self._shape), np.uint8)
        pixels = self._buffer(staged.shape, np.uint8)
        logits = self._buffer((size, self._n_labels), np.float32)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._session.get_inputs()[0].name, pixels)
        binding.bind_ortvalue_output(self._session.get_outputs()[0].name, logits)
        options = self._runtime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(size))

        def run(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            staged[: len(pictures)] = pictures
            try:
                pixels.update_inplace(staged)
                self._session.run_with_iobinding(binding, options)
                answers: NDArray[np.float32] = logits.numpy()
            except Exception as error:  # the runtime's exceptions share no other base
                raise told_apart(error) from error
            return answers[: len(pictures)].copy()

        for _ in range(WARM_UP_RUNS):
            run(staged)
        return run

    def _buffer(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:  # noqa: ANN401
        kind, number = self._place
        try:
            return self._runtime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, kind, number)
        except Exception as error:  # see above
            raise told_apart(error) from error


def told_apart(error: Exception) -> Exception:
    """What the runtime's exception is to us, told by its words: it has no types for them."""
    text = " ".join(str(error).split())
    if any(word in text for word in _MEMORY):
        return OutOfMemory()
    if any(word in text for word in _BROKEN):
        reason = f"the GPU failed ({text[:200]}): start the service again"
        return DeviceLost(BackendName.ONNX, reason)
    return error
