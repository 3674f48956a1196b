"""Weights files from the Hugging Face hub: pinned, checked, resumable, in the hub's cache layout.

Environment as everywhere: HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN. The hub's
own library is not used because it throws a partial download away.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from mnv4serve.errors import HubError, StorageError

FILE = "model.safetensors"
BRANCH = "main"
COMMIT = re.compile("[0-9a-f]{40}")
SHA256 = re.compile("[0-9a-f]{64}")
TIMEOUT_S = 20.0
ATTEMPTS = 5
YES = frozenset({"1", "on", "yes", "true"})

Progress = Callable[[int, int], None]
"""Told how many bytes have arrived and how many there are."""


@dataclass(frozen=True, slots=True)
class Hub:
    """Where to ask and where files are kept."""

    endpoint: str
    cache: Path
    token: str | None = None
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """A weights file on this machine."""

    path: Path
    revision: str | None
    """Commit it belongs to; None where it came from a plain folder."""


@dataclass(frozen=True, slots=True)
class _Remote:
    """What the hub says about a file."""

    url: str
    revision: str
    sha256: str
    n_bytes: int


def hub_from(environment: Mapping[str, str]) -> Hub:
    """The hub as the environment describes it."""
    default = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = Path(environment.get("HF_HOME") or Path(default) / "huggingface").expanduser()
    return Hub(
        endpoint=(environment.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"),
        cache=Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser(),
        token=environment.get("HF_TOKEN"),
        offline=environment.get("HF_HUB_OFFLINE", "").lower() in YES,
    )


def from_folder(repository: str, folder: Path) -> Fetched:
    """A weights file from a folder of the user's; raises HubError where there is none.

    Such a folder holds NAME/model.safetensors, NAME.safetensors, or is a copy of the hub's cache.
    """
    name = repository.rpartition("/")[2]
    for path in (folder / name / FILE, folder / f"{name}.safetensors"):
        if path.is_file():
            return Fetched(path, None)
    for cache in (folder, folder / "hub"):
        cached = _cached(repository, cache, None)
        if cached:
            return cached
    raise HubError(f"{folder} holds neither {name}/{FILE} nor {name}.safetensors")


def fetch(
    repository: str, *, hub: Hub, revision: str | None = None, progress: Progress | None = None
) -> Fetched:
    """A repository's weights file, from the cache where it is there, else from the hub.

    `revision` pins a commit. Where the hub cannot be reached, what was fetched before is used.
    Raises HubError, or StorageError where the file cannot be written; what has arrived is kept and
    the next call goes on from there.
    """
    cached = _cached(repository, hub.cache, revision)
    if cached and (hub.offline or revision):
        return cached
    if hub.offline:
        raise HubError(f"{repository} is not in {hub.cache} and HF_HUB_OFFLINE forbids to fetch it")
    with httpx.Client(headers=_credentials(hub), timeout=TIMEOUT_S) as client:
        url = f"{hub.endpoint}/{repository}/resolve/{revision or BRANCH}/{FILE}"
        try:
            remote = _remote(client, url, repository)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            if cached:
                return cached
            raise _unreachable(hub, error) from error
        return _kept(client, remote, _folder(repository, hub.cache), progress or _silent)


def _credentials(hub: Hub) -> dict[str, str]:
    if hub.token and not hub.token.isascii():
        raise HubError("HF_TOKEN holds letters that no token has: copy it from the hub again")
    return {"Authorization": f"Bearer {hub.token.strip()}"} if hub.token else {}


def _kept(client: httpx.Client, remote: _Remote, folder: Path, progress: Progress) -> Fetched:
    """Bring a file into the cache, under its hash, and name it by its commit."""
    blob = folder / "blobs" / remote.sha256
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        if not blob.exists():
            _download(client, remote, blob, progress)
        _point(folder, remote)
    except OSError as error:
        raise StorageError(f"{blob} cannot be written: {error.strerror or error}") from error
    return _checked(blob, Fetched(blob, remote.revision))


def _download(client: httpx.Client, remote: _Remote, blob: Path, progress: Progress) -> None:
    """Append to what an earlier attempt left; one process at a time."""
    partial = blob.with_name(f"{blob.name}.incomplete")
    with partial.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        missing = remote.n_bytes - file.tell()
        if shutil.disk_usage(blob.parent).free < missing:
            raise StorageError(f"{blob.parent} has no room for {missing / 1e6:.0f} MB: free some")
        _complete(client, remote, file, progress)
        file.flush()
        os.fsync(file.fileno())
    if _sha256(partial) != remote.sha256:
        partial.unlink()
        raise HubError(f"{remote.url} arrived with another hash than the hub names: pull it again")
    partial.replace(blob)


def _complete(client: httpx.Client, remote: _Remote, file: BinaryIO, progress: Progress) -> None:
    """Ask for what is missing until it is there, or several attempts in a row bring nothing."""
    failed = 0
    while (arrived := file.tell()) < remote.n_bytes:
        try:
            _append(client, remote, file, progress)
        except httpx.RequestError as error:
            failed = 0 if file.tell() > arrived else failed + 1
            if failed == ATTEMPTS:
                raise _interrupted(remote, file.tell()) from error


def _append(client: httpx.Client, remote: _Remote, file: BinaryIO, progress: Progress) -> None:
    headers = {"Range": f"bytes={file.tell()}-", "Accept-Encoding": "identity"}
    with client.stream("GET", remote.url, headers=headers, follow_redirects=True) as response:
        if response.status_code == httpx.codes.OK:  # a server that knows no ranges
            file.truncate(0)
        elif response.status_code != httpx.codes.PARTIAL_CONTENT:
            raise _refused(remote.url, response)
        for chunk in response.iter_bytes():  # as they come: what is gathered first may be lost
            file.write(chunk)
            progress(file.tell(), remote.n_bytes)


def _remote(client: httpx.Client, url: str, repository: str) -> _Remote:
    """Commit, hash and size, which the hub itself tells before it sends elsewhere."""
    headers = {"Accept-Encoding": "identity"}
    response = client.head(url, headers=headers)
    for _ in range(ATTEMPTS):  # a renamed repository; storage is at home elsewhere
        following = response.next_request
        if following is None or following.url.host != response.url.host:
            break
        response = client.head(following.url, headers=headers)
    if response.is_error:
        raise _refused(repository, response)
    named = response.headers.get("X-Linked-Etag") or response.headers.get("ETag", "")
    revision, digest = response.headers.get("X-Repo-Commit", ""), named.strip('W/"')
    size = response.headers.get("X-Linked-Size") or response.headers.get("Content-Length", "")
    if not (COMMIT.fullmatch(revision) and SHA256.fullmatch(digest) and size.isdecimal()):
        raise HubError(f"{url} comes without commit, SHA-256 and size: is HF_ENDPOINT a hub?")
    return _Remote(url, revision, digest, int(size))


def _cached(repository: str, cache: Path, revision: str | None) -> Fetched | None:
    """What an earlier download, by us or by the hub's library, left in a cache."""
    folder = _folder(repository, cache)
    try:
        commit = revision or (folder / "refs" / BRANCH).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    path = folder / "snapshots" / commit / FILE
    return _checked(path.resolve(), Fetched(path, commit)) if path.is_file() else None


def _checked(blob: Path, fetched: Fetched) -> Fetched:
    """Refuse a file in the cache whose bytes are not those of its name."""
    if SHA256.fullmatch(blob.name) and _sha256(blob) != blob.name:
        raise HubError(f"{blob} is damaged: delete it and pull again")
    return fetched


def _point(folder: Path, remote: _Remote) -> None:
    """The links by which the hub's library finds a file as well."""
    link = folder / "snapshots" / remote.revision / FILE
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(Path("../../blobs") / remote.sha256)
    if f"/resolve/{BRANCH}/" in remote.url:
        reference = folder / "refs" / BRANCH
        reference.parent.mkdir(exist_ok=True)
        reference.write_text(remote.revision, encoding="utf-8")


def _folder(repository: str, cache: Path) -> Path:
    return cache / f"models--{repository.replace('/', '--')}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _silent(done: int, total: int) -> None:
    del done, total


def _unreachable(hub: Hub, error: Exception) -> HubError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return HubError(
        f"{hub.endpoint} cannot be reached ({reason}): check the connection, set HF_ENDPOINT to a "
        "mirror, or name a folder that holds the files with --folder"
    )


def _interrupted(remote: _Remote, done: int) -> HubError:
    arrived = f"{done / 1e6:.1f} of {remote.n_bytes / 1e6:.1f} MB"
    return HubError(f"{remote.url} broke off after {arrived}: the same command goes on from there")


def _refused(what: str, response: httpx.Response) -> HubError:
    reason = f"{response.status_code} {response.reason_phrase}"
    return HubError(f"the hub refuses {what} with {reason}: check HF_ENDPOINT and HF_TOKEN")
