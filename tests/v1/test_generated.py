"""The committed gRPC code is what its proto says."""

from itertools import pairwise
from pathlib import Path

import pytest

protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools makes the gRPC code")

ROOT = Path(__file__).parent.parent.parent
PROTO = "mnv4serve/v1/classifier.proto"
GENERATED = ("classifier_pb2.py", "classifier_pb2.pyi", "classifier_pb2_grpc.py")


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    """A proto that was edited without generating, or the reverse, is noticed here."""
    out = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]

    status = protoc.main(["protoc", f"-I{ROOT / 'protos'}", *out, str(ROOT / "protos" / PROTO)])

    assert status == 0
    for name in GENERATED:
        fresh = (tmp_path / "mnv4serve" / "v1" / name).read_text("utf-8")
        assert fresh == (ROOT / "mnv4serve" / "v1" / name).read_text("utf-8"), name


def test_every_field_and_method_is_explained() -> None:
    """Each line of the contract that declares something follows a comment on what it means."""
    lines = (ROOT / "protos" / PROTO).read_text("utf-8").splitlines()
    declared = [
        (above.strip(), line.strip())
        for above, line in pairwise(lines)
        if line.endswith(";") and line.startswith("  ")
    ]

    assert len(declared) > 50
    assert [line for above, line in declared if not above.startswith("//")] == []
