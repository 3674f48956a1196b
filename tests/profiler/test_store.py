"""Behaviour of mnv4serve.profiler.store."""

import dataclasses
import json
import math
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mnv4serve.domain import Timing
from mnv4serve.errors import ProfileError, StorageError
from mnv4serve.profiler.store import Profile, host_fingerprint, host_lock, load, require_room, save
from mnv4serve.router.decode_cost import DecodeCost

FINGERPRINT = "ab" * 32
ARM = "conv_small@160/cpu/bf16/cpu"
PROFILE = Profile(
    fingerprint=FINGERPRINT,
    measured_at="2030-01-01T00:00:00+00:00",
    quick=False,
    slots=2,
    threads=1,
    timings={ARM: {1: Timing(1.0, 1.2, 1.5, 300), 2: Timing(1.9, 2.0, None, 20)}},
    decode=DecodeCost(0.05, 7.5, 1.5, 4.0, 20.0),
    switching_ms={ARM: 8.5},
)


def file_of(state_dir: Path) -> Path:
    (path,) = (state_dir / "profiles").iterdir()
    return path


def test_a_profile_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Everything survives the file, and nothing else is left in the folder."""
    save(PROFILE, tmp_path)

    assert load(FINGERPRINT, tmp_path) == PROFILE
    assert file_of(tmp_path).suffix == ".json"


def test_another_hosts_profile_is_absent(tmp_path: Path) -> None:
    """Neither an unknown fingerprint nor a renamed file is believed."""
    save(PROFILE, tmp_path)
    other = "cd" * 32
    file_of(tmp_path).rename(tmp_path / "profiles" / f"{other}.json")

    assert load(other, tmp_path) is None
    assert load(FINGERPRINT, tmp_path) is None


def test_a_corrupt_profile_is_absent(tmp_path: Path) -> None:
    """Cut off, empty or no JSON at all: measured again rather than believed."""
    whole = save(PROFILE, tmp_path).read_bytes()

    for content in (whole[:100], b"", b"\xff\xfe", b"[]", b"null"):
        file_of(tmp_path).write_bytes(content)

        assert load(FINGERPRINT, tmp_path) is None


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "fast", None])
@pytest.mark.parametrize("field", ["p50_ms", "p90_ms"])
def test_an_absurd_profile_is_absent(tmp_path: Path, field: str, value: object) -> None:
    """Times that no measurement gives are not believed."""
    document = json.loads(save(PROFILE, tmp_path).read_text(encoding="utf-8"))
    document["timings"][ARM]["1"][field] = value
    file_of(tmp_path).write_text(json.dumps(document), encoding="utf-8")

    assert load(FINGERPRINT, tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"slots": 0},
        {"switching_ms": {ARM: -1.0}},
        {"threads": -1},
        {"timings": {ARM: {0: Timing(1.0, 1.0, None, 5)}}},
        {"timings": {ARM: {1: Timing(2.0, 1.0, None, 5)}}},
        {"timings": {ARM: {1: Timing(1.0, 1.0, None, 0)}}},
        {"decode": DecodeCost(-1.0, 1.0, 1.0, 1.0, 1.0)},
        {"decode": DecodeCost(math.nan, 1.0, 1.0, 1.0, 1.0)},
    ],
)
def test_an_absurd_profile_is_never_written(tmp_path: Path, change: dict[str, object]) -> None:
    """A measurement that went wrong says so instead of misleading the router."""
    absurd = dataclasses.replace(PROFILE, **change)  # type: ignore[arg-type]

    with pytest.raises(ProfileError):
        save(absurd, tmp_path)

    assert not (tmp_path / "profiles").exists()


def test_room_is_looked_for_before_anything_is_measured(tmp_path: Path) -> None:
    """Nothing is left in a folder that can be written; another one is named at once."""
    require_room(tmp_path)
    (tmp_path / "file").touch()

    assert [*(tmp_path / "profiles").iterdir()] == []
    with pytest.raises(StorageError, match="--state-dir"):
        require_room(tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """One sentence with the path instead of a traceback."""
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be", encoding="utf-8")

    with pytest.raises(StorageError, match="state"):
        save(PROFILE, blocked)


def fingerprint_of(tmp_path: Path, **change: object) -> str:
    arguments: dict[str, object] = {
        "grant": 2,
        "runtimes": ("openvino 2026.4", "onnxruntime 1.32"),
        "artifact_digests": ("aa", "bb"),
        "cpuinfo": tmp_path / "cpuinfo",
    }
    return host_fingerprint(**(arguments | change))  # type: ignore[arg-type]


def write_cpuinfo(tmp_path: Path, *, flags: str = "avx2 fma", mhz: str = "2600") -> None:
    text = f"processor : 0\nmodel name : A CPU\ncpu MHz : {mhz}\nflags : {flags}\n\n"
    (tmp_path / "cpuinfo").write_text(text + text.replace(": 0", ": 1"), encoding="ascii")


@pytest.mark.parametrize(
    "change", [{"grant": 1}, {"runtimes": ("openvino 2027.1",)}, {"artifact_digests": ("aa",)}]
)
def test_the_fingerprint_changes_with_what_decides_speed(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """Cores, runtimes and artifacts are part of it."""
    write_cpuinfo(tmp_path)

    assert fingerprint_of(tmp_path, **change) != fingerprint_of(tmp_path)


def test_the_fingerprint_knows_the_processor(tmp_path: Path) -> None:
    """Instruction sets count; their order and the momentary clock do not."""
    write_cpuinfo(tmp_path)
    original = fingerprint_of(tmp_path)

    write_cpuinfo(tmp_path, flags="fma avx2", mhz="800")
    assert fingerprint_of(tmp_path) == original
    write_cpuinfo(tmp_path, flags="fma avx2 amx_bf16")
    assert fingerprint_of(tmp_path) != original


def test_the_fingerprint_is_not_the_hosts_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts of the same kind share it; where there is no /proc it still works."""
    original = fingerprint_of(tmp_path)

    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")

    assert fingerprint_of(tmp_path, runtimes=("onnxruntime 1.32", "openvino 2026.4")) == original


def test_only_one_profiler_measures_at_a_time(tmp_path: Path) -> None:
    """The second one says that it waits, and goes on when the first has finished."""
    waited = threading.Event()
    entered = threading.Event()

    def second(announce: Callable[[str], None]) -> None:
        with host_lock(waiting=announce, folder=tmp_path):
            entered.set()

    with host_lock(waiting=lambda _: None, folder=tmp_path):
        thread = threading.Thread(target=second, args=(lambda _: waited.set(),))
        thread.start()
        assert waited.wait(10)
        assert not entered.is_set()

    assert entered.wait(10)
    thread.join()
