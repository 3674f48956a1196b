"""PyTorch on an NVIDIA GPU: one captured CUDA graph per slot and bucket of pictures.

At these sizes a network is bound by launching its kernels; a graph launches them all at once.
Every slot has a stream and staging buffers of its own, so that one slot's copies overlap
another's computing.
"""

import gc
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnv4serve.backends import Artifact
from mnv4serve.backends.cuda_buckets import BUCKETS, Ladder, OutOfMemory, Run
from mnv4serve.backends.cuda_device import facts, precisions, require
from mnv4serve.backends.cuda_network import mismatch, read
from mnv4serve.backends.cuda_runtime import (
    CACHE,
    CudaRuntime,
    Network,
    Runtime,
    told_apart,
)
from mnv4serve.domain import BackendName
from mnv4serve.errors import ArmDown, BackendUnavailable, DeviceLost

WARM_UP_RUNS = 3
"""Before a capture: cuDNN chooses its algorithms in the first runs, and Inductor compiles."""
_STATE_DIR = 2
"""How many folders an artifact lies below the state folder's own."""


def open_cuda(artifact: Artifact, *, device: str, slots: int) -> "CudaBackend":
    """An artifact on a device that can compute its precision."""
    number = require(device)
    gpu = facts().gpus[number]
    if artifact.precision not in precisions(gpu.capability):
        reason = f"{gpu.name} does not compute {artifact.precision} natively"
        raise BackendUnavailable(BackendName.CUDA, reason)
    state_dir = artifact.path.absolute().parents[_STATE_DIR]
    return CudaBackend(artifact, CudaRuntime(number, state_dir / CACHE), slots=slots)


class CudaBackend:
    """One artifact on one device, captured and warm for every slot once it is made."""

    def __init__(self, artifact: Artifact, runtime: Runtime, *, slots: int) -> None:
        self._runtime = runtime
        self._shape = (artifact.resolution, artifact.resolution, 3)
        network = read(artifact)
        self._lanes: list[_Lane] = []
        try:
            with told_apart():
                compiled = runtime.compiled(network.to(runtime.device))
                for _ in range(slots):
                    self._lanes.append(_Lane(runtime, compiled, self._shape, artifact.n_labels))
        except OutOfMemory as error:
            self.close()
            reason = f"{artifact.variant} does not fit into the memory of {runtime.device}"
            raise BackendUnavailable(BackendName.CUDA, reason) from error
        except (RuntimeError, _WrongLogits) as error:
            raise mismatch(artifact.path, f"it does not run ({_brief(error)})") from error

    @property
    def buckets(self) -> tuple[tuple[int, ...], ...]:
        """The batch sizes that each slot has a graph for."""
        return tuple(lane.ladder.sizes for lane in self._lanes)

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3].

        Raises DeviceLost once the GPU has failed, ArmDown where its memory is used up.
        """
        if pixels.shape[1:] != self._shape or pixels.dtype != np.uint8:
            wanted = f"they must be uint8 [N, {self._shape[0]}, {self._shape[0]}, 3]"
            raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}: {wanted}")
        n = len(pixels)
        if not (0 <= slot < len(self._lanes) and n > 0):
            raise ValueError(f"no slot {slot} or no picture in a batch of {n}; is it closed?")
        try:
            return self._lanes[slot].ladder.infer(pixels)
        except OutOfMemory as error:
            raise ArmDown(f"the memory of {self._runtime.device} is used up") from error

    def close(self) -> None:
        """Free the graphs, the buffers and the weights."""
        while self._lanes:
            self._lanes.pop().ladder.close()
        gc.collect()  # a traced module refers to itself, and would keep its weights on the device
        with suppress(DeviceLost), told_apart():  # a lost device gives back nothing
            self._runtime.release()


class _WrongLogits(Exception):
    """A network gives something else than its artifact says."""


class _Lane:
    """The stream, the buffers and the graphs of one slot."""

    def __init__(
        self, runtime: Runtime, network: Network, shape: tuple[int, ...], n_labels: int
    ) -> None:
        most = BUCKETS[-1]
        self._network = network
        self._n_labels = n_labels
        self._stream = runtime.stream()
        self._staged = runtime.pinned((most, *shape), torch.uint8)
        self._pixels = torch.zeros((most, *shape), dtype=torch.uint8, device=runtime.device)
        self._answers = runtime.pinned((most, n_labels), torch.float32)
        self._host_pixels: NDArray[np.uint8] = self._staged.numpy()
        self._host_answers: NDArray[np.float32] = self._answers.numpy()
        self.ladder = Ladder(self._open)

    def _open(self, size: int) -> Run:
        with told_apart(), torch.no_grad(), self._stream.current():
            forward = partial(self._network, self._pixels[:size])
            for _ in range(WARM_UP_RUNS):
                logits = forward()
            if logits.shape != (size, self._n_labels):
                raise _WrongLogits(f"{list(logits.shape)} for {size} pictures")
            del logits
            replay, logits = self._stream.capture(forward)
            self._stream.wait()

        def run(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            with told_apart(), self._stream.current():
                self._copy_in(pictures)
                replay()
                return self._copy_out(logits, len(pictures))

        return run

    def _copy_in(self, pictures: NDArray[np.uint8]) -> None:
        """What an earlier run left in the rest of the bucket is computed and not looked at."""
        n = len(pictures)
        self._host_pixels[:n] = pictures
        self._pixels[:n].copy_(self._staged[:n], non_blocking=True)

    def _copy_out(self, logits: Tensor, n: int) -> NDArray[np.float32]:
        self._answers[:n].copy_(logits[:n], non_blocking=True)
        self._stream.wait()
        return self._host_answers[:n].copy()


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
