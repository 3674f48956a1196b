"""Triton Inference Server with its Python backend, from the binaries of nvidia-pytriton's wheel.

The backend is used as it is, without PyTriton's proxy, which would add a hop.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from loadtests.asks import ROOT
from loadtests.peers.work import HOST, asked, end_on_sigterm

CONFIG = """
name: "classify"
backend: "python"
max_batch_size: 0
input [{{ name: "IMAGE", data_type: TYPE_UINT8, dims: [-1] }}]
output [{{ name: "REPLY", data_type: TYPE_UINT8, dims: [-1] }}]
instance_group [{{ count: {workers}, kind: KIND_CPU }}]
"""


def main() -> None:
    given = asked()
    packages = Path(sysconfig.get_paths()["purelib"])
    server = _completed(packages / "pytriton" / "tritonserver")
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        _write_model(Path(folder, "models", "classify"), workers=given.workers)
        command = [
            *(f"{server}/bin/tritonserver", f"--model-repository={folder}/models"),
            *(f"--backend-directory={server}/backends", f"--http-address={HOST}"),
            *(f"--http-port={given.port}", "--allow-grpc=false", "--allow-metrics=false"),
            *("--log-info=false", "--disable-auto-complete-config"),
        ]
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(packages))),
        }
        sys.exit(subprocess.call(command, env=environment))


def _completed(server: Path) -> Path:
    """The backend wants the stub of this Python beside it."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, server / "backends" / "python" / stub.name)
    return server


def _write_model(folder: Path, *, workers: int) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG.format(workers=workers), "utf-8")
    line = "from loadtests.peers.handlers.triton_model import TritonPythonModel\n"
    (folder / "1" / "model.py").write_text(line, "utf-8")


if __name__ == "__main__":
    main()
