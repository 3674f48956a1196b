"""Fetching from a hub: checked, resumed, kept where the hub's own library finds it."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mnv4serve.build.hub import FILE, Hub, fetch, from_folder, hub_from
from mnv4serve.errors import HubError, StorageError

from .fake_hub import COMMIT, FakeHub, serving

CONTENT = bytes(range(256)) * 40_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CACHED = "models--timm--mobilenetv4_tiny"


@pytest.fixture
def remote() -> Iterator[FakeHub]:
    with serving(FakeHub(CONTENT)) as hub:
        yield hub


@pytest.fixture
def hub(remote: FakeHub, tmp_path: Path) -> Hub:
    return Hub(remote.endpoint, tmp_path / "hub")


def test_a_file_lands_in_the_hubs_own_layout(remote: FakeHub, hub: Hub) -> None:
    """Blob by hash, snapshot by commit, branch by name; progress ends at the whole."""
    told: list[tuple[int, int]] = []

    found = fetch(remote.repository, hub=hub, progress=lambda *step: told.append(step))

    folder = hub.cache / CACHED
    assert found.path.read_bytes() == CONTENT
    assert found.revision == COMMIT
    assert (folder / "snapshots" / COMMIT / FILE).resolve() == folder / "blobs" / SHA256
    assert (folder / "refs" / "main").read_text() == COMMIT
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_what_has_arrived_is_not_fetched_again(remote: FakeHub, hub: Hub) -> None:
    """A download that breaks off says so and keeps its part; the next one asks for the rest."""
    remote.dies_after = 1_500_000
    with pytest.raises(HubError, match=r"broke off after 1\.5 of 10\.2 MB: the same"):
        fetch(remote.repository, hub=hub)
    (partial,) = (hub.cache / CACHED / "blobs").iterdir()
    arrived = partial.stat().st_size
    remote.dies_after, remote.asked = None, []

    found = fetch(remote.repository, hub=hub)

    assert found.path.read_bytes() == CONTENT
    assert f"GET bytes={arrived}-" in remote.asked


def test_a_bad_line_brings_the_file_all_the_same(remote: FakeHub, hub: Hub) -> None:
    """However often it breaks: each attempt adds what came, be it less than a megabyte."""
    remote.breaks_after = 600_000

    assert fetch(remote.repository, hub=hub).path.read_bytes() == CONTENT
    assert len([line for line in remote.asked if line.startswith("GET bytes=")]) > 17


def test_a_server_without_ranges_starts_over(remote: FakeHub, hub: Hub) -> None:
    """A part is dropped where the server sends everything again."""
    blobs = hub.cache / CACHED / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{SHA256}.incomplete").write_bytes(b"what an earlier attempt left")
    remote.knows_ranges = False

    assert fetch(remote.repository, hub=hub).path.read_bytes() == CONTENT


def test_other_bytes_than_named_are_refused(remote: FakeHub, hub: Hub) -> None:
    """A file whose hash is not the hub's own never gets its name."""
    remote.digest = "a" * 64

    with pytest.raises(HubError, match="another hash"):
        fetch(remote.repository, hub=hub)

    assert list((hub.cache / CACHED / "blobs").iterdir()) == []


def test_a_pinned_commit_in_the_cache_needs_no_network(remote: FakeHub, hub: Hub) -> None:
    """Pulling again the commit that was recorded asks nobody."""
    fetch(remote.repository, hub=hub)
    remote.asked = []

    assert fetch(remote.repository, hub=hub, revision=COMMIT).revision == COMMIT
    assert remote.asked == []


@pytest.mark.parametrize("offline", [True, False])
def test_the_cache_serves_without_a_connection(remote: FakeHub, hub: Hub, *, offline: bool) -> None:
    """Offline or cut off: what was fetched before is used."""
    fetch(remote.repository, hub=hub)
    away = replace(hub, endpoint="http://127.0.0.1:9", offline=offline)

    assert fetch(remote.repository, hub=away).path.read_bytes() == CONTENT


def test_nothing_cached_and_nobody_there(tmp_path: Path) -> None:
    """One sentence with what can be done about it, online and offline."""
    away = Hub("http://127.0.0.1:9", tmp_path)

    with pytest.raises(HubError, match=r"127\.0\.0\.1:9 cannot be reached.*--folder"):
        fetch("timm/mobilenetv4_tiny", hub=away)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        fetch("timm/mobilenetv4_tiny", hub=replace(away, offline=True))


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"HF_ENDPOINT": "http://[::1"}, "cannot be reached"),
        ({"HF_ENDPOINT": "huggingface.co"}, "cannot be reached"),
        ({"HF_TOKEN": "hf_é"}, "HF_TOKEN holds letters"),
    ],
)
def test_a_mistyped_environment_is_one_sentence(
    tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    """Addresses and tokens that cannot even be sent do not end in a traceback."""
    wrong = hub_from({"HF_HUB_CACHE": str(tmp_path), **environment})

    with pytest.raises(HubError, match=sentence):
        fetch("timm/mobilenetv4_tiny", hub=wrong)


def test_a_damaged_cache_is_not_used(remote: FakeHub, hub: Hub) -> None:
    """Bytes that are not those of their name are named, not served."""
    fetch(remote.repository, hub=hub).path.write_bytes(b"rot")

    with pytest.raises(HubError, match="is damaged: delete it"):
        fetch(remote.repository, hub=replace(hub, offline=True))


def test_a_renamed_repository_is_followed(remote: FakeHub, hub: Hub) -> None:
    """The hub's own redirects lead to the commit; only those to its storage are not asked twice."""
    remote.renamed_from = "rwightman/tiny"

    assert fetch("rwightman/tiny", hub=hub).revision == COMMIT


def test_an_unknown_repository_is_refused(remote: FakeHub, hub: Hub) -> None:
    """The status of the hub is passed on."""
    with pytest.raises(HubError, match="404"):
        fetch(f"{remote.repository}_of_nobody", hub=hub)


def test_an_endpoint_that_is_no_hub_is_refused(remote: FakeHub, hub: Hub) -> None:
    """Nothing is taken from a server that names neither commit nor hash."""
    remote.commit = "latest"

    with pytest.raises(HubError, match="is HF_ENDPOINT a hub"):
        fetch(remote.repository, hub=hub)


def test_a_cache_that_cannot_be_written_is_named(remote: FakeHub, hub: Hub) -> None:
    """A file where the folder should be ends in one sentence."""
    hub.cache.write_text("in the way")

    with pytest.raises(StorageError, match="cannot be written"):
        fetch(remote.repository, hub=hub)


def test_a_plain_folder_serves_in_either_form(tmp_path: Path) -> None:
    """A file of the repository's name, or a folder of that name with the hub's file."""
    (tmp_path / "mobilenetv4_a.safetensors").write_bytes(b"a")
    (tmp_path / "mobilenetv4_b").mkdir()
    (tmp_path / "mobilenetv4_b" / FILE).write_bytes(b"b")

    assert from_folder("timm/mobilenetv4_a", tmp_path).path.read_bytes() == b"a"
    assert from_folder("timm/mobilenetv4_b", tmp_path).path.read_bytes() == b"b"
    with pytest.raises(HubError, match="holds neither mobilenetv4_c/"):
        from_folder("timm/mobilenetv4_c", tmp_path)


@pytest.mark.parametrize("below", ["", "hub"])
def test_a_copied_cache_is_a_folder_too(
    remote: FakeHub, hub: Hub, tmp_path: Path, below: str
) -> None:
    """HF_HOME or its hub folder, brought from another machine."""
    fetch(remote.repository, hub=replace(hub, cache=tmp_path / "brought" / below))

    assert from_folder(remote.repository, tmp_path / "brought").revision == COMMIT


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({"HF_HOME": "/h"}, "/h/hub"),
        ({"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
    ],
)
def test_the_environment_says_where_files_are_kept(environment: dict[str, str], cache: str) -> None:
    """The variables that the hub's own library reads."""
    assert hub_from(environment).cache == Path(cache)


def test_the_environment_says_whom_to_ask() -> None:
    """Mirror, token and offline mode are taken over."""
    settings = {"HF_ENDPOINT": "http://mirror/", "HF_TOKEN": "t", "HF_HUB_OFFLINE": "1"}

    hub = hub_from(settings)

    assert (hub.endpoint, hub.token, hub.offline) == ("http://mirror", "t", True)
    assert not hub_from({}).offline
