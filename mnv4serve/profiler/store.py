"""The measured profile of a host on disk, addressed by what it was measured on."""

import fcntl
import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mnv4serve.domain import Timing
from mnv4serve.errors import ProfileError, StorageError
from mnv4serve.router.decode_cost import DecodeCost

REVISION = 2
"""Raised whenever profiles measured by older code must not be believed any more."""

LOCK_FILE = "mnv4serve-profiler.lock"


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything measured on one host for one device."""

    fingerprint: str
    measured_at: str
    """UTC, ISO 8601."""
    quick: bool
    slots: int
    threads: int
    timings: dict[str, dict[int, Timing]]
    """By arm id and batch size."""
    decode: DecodeCost
    switching_ms: dict[str, float] = field(default_factory=dict)
    """By arm id: what its first picture takes longer after another arm ran on the device. Empty
    where a device holds them all."""


_ADAPTER = TypeAdapter(Profile)


def host_fingerprint(
    *,
    grant: int,
    runtimes: Sequence[str],
    artifact_digests: Sequence[str],
    cpuinfo: Path = Path("/proc/cpuinfo"),
) -> str:
    """Hash of what decides how fast arms are: processor, cores, runtimes, artifacts."""
    parts = {
        "revision": REVISION,
        "processor": _processor(cpuinfo),
        "grant": grant,
        "runtimes": sorted(runtimes),
        "artifacts": sorted(artifact_digests),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save(profile: Profile, state_dir: Path) -> Path:
    """Write the profile in one step, so that no reader ever sees half of it."""
    _check(profile)
    path = _path(profile.fingerprint, state_dir)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            json.dump(asdict(profile), file, indent=1)
        Path(file.name).replace(path)
    except OSError as error:
        raise StorageError(f"profile {path} cannot be written: {error.strerror}") from error
    return path


def require_room(state_dir: Path) -> None:
    """Find out before a long measurement that its profile can be kept; raises StorageError."""
    folder = _path("", state_dir).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(
            f"profiles cannot be kept in {folder}: {error.strerror}; name another folder with "
            "--state-dir"
        ) from error


def load(fingerprint: str, state_dir: Path) -> Profile | None:
    """The stored profile; None where there is none, or a corrupt, absurd or foreign one."""
    try:
        profile = _ADAPTER.validate_json(_path(fingerprint, state_dir).read_bytes())
        _check(profile)
    except (OSError, ValidationError, ProfileError):
        return None
    return profile if profile.fingerprint == fingerprint else None


@contextmanager
def host_lock(*, waiting: Callable[[str], None], folder: Path | None = None) -> Iterator[None]:
    """Held by the one process of this host that measures; says so before it has to wait."""
    path = (folder or Path(tempfile.gettempdir())) / LOCK_FILE
    descriptor = _open_lock(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting("another process is measuring this host: waiting for it to finish")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """Readable is enough to lock; another user's file cannot be opened for creation."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"lock file {path} cannot be opened: {error.strerror}") from error


def _path(fingerprint: str, state_dir: Path) -> Path:
    return state_dir / "profiles" / f"{fingerprint}.json"


def _check(profile: Profile) -> None:
    """Raises ProfileError for numbers that no measurement gives."""
    if profile.slots < 1 or profile.threads < 1:
        raise ProfileError(
            f"a profile of {profile.slots} slots x {profile.threads} threads: profile again"
        )
    for arm_id, by_batch in profile.timings.items():
        for batch, timing in by_batch.items():
            if batch < 1 or not _sane(timing):
                raise ProfileError(f"{arm_id} at batch {batch} measured {timing}: profile again")
    if not all(math.isfinite(value) and value >= 0 for value in astuple(profile.decode)):
        raise ProfileError(f"decoding measured {profile.decode}: profile again")
    if not all(math.isfinite(value) and value >= 0 for value in profile.switching_ms.values()):
        raise ProfileError(f"switching measured {profile.switching_ms}: profile again")


def _sane(timing: Timing) -> bool:
    values = [timing.p50_ms, timing.p90_ms]
    values += [] if timing.p99_ms is None else [timing.p99_ms]
    positive = all(math.isfinite(value) and value > 0 for value in values)
    return timing.n > 0 and positive and values == sorted(values)


def _processor(cpuinfo: Path) -> list[str]:
    """Model and instruction sets; the architecture alone where the kernel does not tell."""
    wanted = ("model name", "flags", "Features", "CPU part")
    found = {platform.machine()}
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return sorted(found)
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in wanted:
            found.add(f"{key.strip()}: {' '.join(sorted(value.split()))}")
    return sorted(found)
