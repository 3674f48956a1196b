import bz2
import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mnv4serve.errors import BadConfig
from mnv4serve.simulate.traces import Floats, read_trace

TRACES = Path("../shared/data/traces")
STAMPS = "TIMESTAMP,a\n2023-11-16 18:15:46.0,1\n2023-11-16 18:15:47.0,1\n2023-11-16 18:15:50.0,1\n"


def read(path: Path, n: int, *, rate: float = 10.0, seed: int = 0) -> Floats:
    return read_trace(path, n, rate_per_s=rate, rng=np.random.default_rng(seed))


def write(path: Path, content: str) -> Path:
    data = content.encode()
    match path.suffix:
        case ".gz":
            data = gzip.compress(data)
        case ".bz2":
            data = bz2.compress(data)
        case ".tbz2":
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w:bz2") as archive:
                member = tarfile.TarInfo("counts.txt")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            data = buffer.getvalue()
        case _:
            pass
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.bz2"])
def test_stamps_keep_their_shape(tmp_path: Path, name: str) -> None:
    """Gaps of 1 and 3 seconds and the mean of both going round, stretched to the wanted rate."""
    found = read(write(tmp_path / name, STAMPS), 3, rate=1.0)

    gaps = np.diff(np.concatenate([[0.0], found]))
    assert sorted(gaps) == pytest.approx([0.5, 1.0, 1.5])


def test_stamps_may_be_seconds(tmp_path: Path) -> None:
    """Plain numbers in the first column are seconds."""
    path = write(tmp_path / "a.csv", "t,x\n10.0,\n11.0,\n14.0,\n")

    gaps = np.diff(np.concatenate([[0.0], read(path, 3, rate=1.0)]))
    assert sorted(gaps) == pytest.approx([0.5, 1.0, 1.5])


@pytest.mark.parametrize("name", ["a.txt", "a.tbz2"])
def test_counts_become_arrivals_within_their_second(tmp_path: Path, name: str) -> None:
    """A busy second stays as much busier than a quiet one as it was."""
    path = write(tmp_path / name, " ".join(["10 90"] * 50))

    found = read(path, 5000, rate=50.0)

    counts, _ = np.histogram(found, bins=np.arange(0.0, 100.5, 1.0))
    assert found[-1] == pytest.approx(100.0)
    assert counts.std() == pytest.approx(40.0, rel=0.25)


def test_a_short_trace_goes_round(tmp_path: Path) -> None:
    """More requests than were recorded come from going through the trace again."""
    found = read(write(tmp_path / "a.csv", STAMPS), 3000, rate=100.0)

    assert len(found) == 3000
    assert found[-1] == pytest.approx(30.0)


def test_seeds_begin_at_different_places(tmp_path: Path) -> None:
    """Two seeds see other parts of a trace first."""
    path = write(tmp_path / "a.txt", " ".join(str(n % 97) for n in range(500)))

    assert not np.array_equal(read(path, 1000, seed=1), read(path, 1000, seed=2))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("t,x\n", "is empty"),
        ("t,x\n1.0,\n", "is empty"),
        ("0 0 0", "is empty"),
        ("5 -1", "fewer than no requests"),
        ("one two", "neither CSV"),
        ("t,x\nyesterday,1\n", "neither CSV"),
        ("t,x\n1.0,\n1.0,\n1.0,\n", "at the same time"),
        ("t,x\nnan,\n1.0,\n2.0,\n", "neither CSV"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    """One sentence says what is wrong with the file."""
    path = write(tmp_path / "a.csv", content)

    with pytest.raises(BadConfig, match=sentence):
        read(path, 10)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    """So is one that is packed as its name does not say."""
    with pytest.raises(BadConfig, match="cannot be read"):
        read(tmp_path / "absent.csv", 10)
    (tmp_path / "a.gz").write_bytes(b"plain")
    with pytest.raises(BadConfig, match="cannot be read"):
        read(tmp_path / "a.gz", 10)


@pytest.mark.skipif(not TRACES.exists(), reason=f"{TRACES} is absent")
@pytest.mark.parametrize(
    "name", ["AzureLLMInferenceTrace_conv.csv.gz", "twitter_2018_22days_per_second.tbz2"]
)
def test_recorded_traces_are_burstier_than_even_spacing(name: str) -> None:
    """Both kinds of recorded file are read as they were published."""
    found = read(TRACES / name, 5000, rate=1000.0)

    gaps = np.diff(found)
    assert found[-1] == pytest.approx(5.0)
    assert gaps.std() / gaps.mean() > 0.8
