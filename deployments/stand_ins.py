"""Packages in the place of Google's two for Coral, where those cannot be had.

The compiler copies its input and says that every operator was mapped; the runtime library is the
double of libedgetpu that the tests use. With them each instruction can be run, not a real device.
"""

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DOUBLE = Path(__file__).parents[1] / "tests" / "backends" / "fake_libedgetpu.c"
COMPILER = """#!/bin/sh
for last; do :; done
out=$(dirname "$last")
cp "$last" "$out/model_edgetpu.tflite"
cat <<LOG
Edge TPU Compiler version 16.0 (stand-in)
On-chip memory used for caching model parameters: 1.00MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1

Operator                       Count      Status
CONV_2D                        1          Mapped to Edge TPU
LOG
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: the steps that download say so themselves."""


@contextmanager
def stand_ins(folder: Path) -> Iterator[dict[str, str]]:
    """Build arguments with the addresses and checksums of packages that are served meanwhile."""
    folder.mkdir()
    compiler = folder / "edgetpu_compiler"
    compiler.write_text(COMPILER, encoding="utf-8")
    library = folder / "libedgetpu.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(DOUBLE)], check=True)
    packages = {
        "EDGETPU_COMPILER": _package(folder, "edgetpu-compiler", compiler, "usr/bin"),
        "LIBEDGETPU": _package(folder, "libedgetpu1-std", library, "usr/lib/x86_64-linux-gnu"),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    arguments = {}
    for name, package in packages.items():
        arguments[f"{name}_DEB"] = f"http://127.0.0.1:{server.server_port}/{package.name}"
        arguments[f"{name}_SHA256"] = hashlib.sha256(package.read_bytes()).hexdigest()
    try:
        yield arguments
    finally:
        server.shutdown()


def _package(folder: Path, name: str, file: Path, where: str) -> Path:
    """A Debian package that holds one file."""
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 0.0-stand-in\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: stand-in\n",
        encoding="utf-8",
    )
    (root / where).mkdir(parents=True)
    file.chmod(0o755)
    file.rename(root / where / file.name)
    package = folder / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(root), str(package)],
        check=True,
        capture_output=True,
    )
    return package
