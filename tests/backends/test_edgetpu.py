"""The edgetpu backend against a stand-in for libedgetpu: finding, choosing, opening, failing."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from mnv4serve.backends import Artifact, edgetpu, edgetpu_owner, open_backend
from mnv4serve.backends.edgetpu import COMPILED, REASON, EdgeTpuBackend, compiled_path, probe
from mnv4serve.backends.edgetpu_devices import Claim, Device, chosen
from mnv4serve.backends.edgetpu_trial import Trial
from mnv4serve.backends.litert import open_interpreter
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing, BackendUnavailable
from tests.backends.tiny import artifact, pictures

SOURCE = Path(__file__).with_name("fake_libedgetpu.c")
TWO = "usb /sys/bus/usb/devices/2-1;pci /dev/apex_0"
Setting = Callable[..., None]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make the stand-in with")
    path = tmp_path_factory.mktemp("fake") / "libedgetpu.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-pthread", "-o", path, SOURCE], check=True
    )
    return path


@pytest.fixture
def fake(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Setting:
    """Sets what the stand-in pretends; two devices to begin with."""

    def pretend(**settings: str) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"FAKE_EDGETPU_{name.upper()}", value)

    monkeypatch.setenv("EDGETPU_LIBRARY", str(library))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(edgetpu, "_shared", lambda name: edgetpu._Shared(name, survey))
    pretend(devices=TWO)
    return pretend


def survey() -> Trial:
    return edgetpu._survey(Path("/nothing"))


@pytest.fixture
def built(int8_network: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """An artifact that counts as compiled; the stand-in leaves it to the processor."""
    monkeypatch.setattr(edgetpu, "compiled_path", lambda described: described.path)
    return artifact(int8_network, BackendName.EDGETPU, precision=Precision.INT8)


@pytest.mark.usefixtures("fake")
def test_probe_lists_the_devices_by_path() -> None:
    """Paths, because the order may change from start to start."""
    found = probe(Path("/nothing"))

    assert found.available
    assert found.devices == ("edgetpu:/sys/bus/usb/devices/2-1", "edgetpu:/dev/apex_0")
    assert found.precisions == (Precision.INT8,)


@pytest.mark.usefixtures("fake")
def test_a_device_is_opened_and_given_back(built: Artifact) -> None:
    """It answers, and once closed it opens again."""
    answers = []
    for device in ("edgetpu", "edgetpu:/dev/apex_0", "edgetpu:1"):
        opened = open_backend(built, device=device, slots=1, threads=1)
        with closing(opened) as backend:
            answers.append(backend.infer(pictures(2)))

    assert answers[0].shape == (2, 5)
    assert np.array_equal(answers[0], answers[2])


def test_a_device_is_chosen_by_number_or_path() -> None:
    """One alone needs neither; what is not there is answered with what is."""
    devices = (Device("usb", "/sys/bus/usb/devices/2-1"), Device("pci", "/dev/apex_0"))

    assert [chosen(f"edgetpu{name}", devices) for name in ("", ":0", ":1", ":/dev/apex_0")] == [
        0, 0, 1, 1,
    ]  # fmt: skip
    for wrong in ("edgetpu:2", "edgetpu:/dev/apex_1", "edgetpu:x"):
        with pytest.raises(BackendUnavailable, match="/dev/apex_0"):
            chosen(wrong, devices)


@pytest.mark.usefixtures("fake")
def test_an_open_card_tells_its_temperature(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the card that was chosen, whatever it is called; a stick and a closed card tell none."""
    folder = tmp_path / "class/apex/apex_0"
    folder.mkdir(parents=True)
    (folder / "temp").write_text("61250\n", encoding="ascii")
    card, stick = edgetpu._Shared("edgetpu:1", survey), edgetpu._Shared("edgetpu:0", survey)
    monkeypatch.setattr(edgetpu, "_shared", {"card": card, "stick": stick}.__getitem__)

    assert edgetpu.heat("card", tmp_path) is None
    card.use()
    stick.use()

    heat = edgetpu.heat("card", tmp_path)
    assert heat is not None
    assert heat.celsius == 61.25
    assert edgetpu.heat("stick", tmp_path) is None
    card.leave()
    stick.leave()
    assert edgetpu.heat("card", tmp_path) is None


@pytest.mark.usefixtures("fake")
def test_models_share_a_device() -> None:
    """A second model of the same process is not refused; the last one to leave closes it."""
    shared = edgetpu._Shared("edgetpu:0", survey)
    shared.use()
    shared.use()

    shared.leave()
    assert shared.path == "/sys/bus/usb/devices/2-1"
    shared.leave()
    assert not shared.path


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"devices": ""}, "no Edge TPU is attached"),
        ({"busy": ":0"}, "no Edge TPU is attached|cannot open|may not open|holds"),
        ({"crash": "list"}, "crashed"),
        ({"crash": "open"}, "crashed"),
    ],
)
def test_each_failure_has_its_reason(
    fake: Setting, built: Artifact, settings: dict[str, str], reason: str
) -> None:
    """Nothing attached, no opening, a driver that dies: one sentence, and the process lives."""
    fake(**settings)

    with pytest.raises(BackendUnavailable, match=reason):
        EdgeTpuBackend(built, device="edgetpu:0", slots=1)


def test_a_slow_open_is_waited_for(fake: Setting, built: Artifact) -> None:
    """A stick that is sent its firmware first is no failure."""
    fake(slow_s="1")

    with closing(EdgeTpuBackend(built, device="edgetpu:0", slots=1)) as backend:
        assert backend.infer(pictures(1)).shape == (1, 5)


def test_an_open_without_end_is_given_up(
    fake: Setting, built: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that hangs, hangs a child, which is ended; the sentence says how long it had."""
    fake(slow_s="60")
    monkeypatch.setattr(edgetpu_owner, "TIMEOUT_S", 4.0)

    with pytest.raises(BackendUnavailable, match="did not answer within 4 s"):
        EdgeTpuBackend(built, device="edgetpu:0", slots=1)


def test_without_library_the_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The commonest case: nothing is installed."""
    monkeypatch.setenv("EDGETPU_LIBRARY", str(tmp_path / "none.so"))

    found = probe(Path("/nothing"))

    assert not found.available
    assert "libedgetpu is not installed" in found.reason


@pytest.mark.usefixtures("fake")
def test_a_device_held_by_another_process_names_it(built: Artifact, tmp_path: Path) -> None:
    """A second opener would end the first process, so it is stopped before it tries."""
    code = (
        "import sys; from pathlib import Path\n"
        "from mnv4serve.backends.edgetpu_devices import Claim\n"
        "claim = Claim('/sys/bus/usb/devices/2-1', Path(sys.argv[1]))\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder:
        assert holder.stdout.readline() == b"held\n"

        with pytest.raises(BackendUnavailable, match=f"process {holder.pid} holds"):
            EdgeTpuBackend(built, device="edgetpu:0", slots=1)
        holder.stdin.close()
        holder.wait()

    EdgeTpuBackend(built, device="edgetpu:0", slots=1).close()


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> edgetpu._Shared:
    """The first device, the same one for all models."""
    shared = edgetpu._Shared("edgetpu:0", survey)
    monkeypatch.setattr(edgetpu, "_shared", lambda _: shared)
    return shared


def test_an_unplugged_device_is_found_again(
    fake: Setting,
    built: Artifact,
    shared: edgetpu._Shared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its driver aborts, which this process survives; once it is back all its models answer."""
    pulled = tmp_path / "pulled"
    fake(pulled=str(pulled))
    other = replace(built, path=Path(shutil.copy(built.path, tmp_path / "other.tflite")))
    first = EdgeTpuBackend(built, device="edgetpu:0", slots=1)
    second = EdgeTpuBackend(other, device="edgetpu:0", slots=1)
    with closing(first), closing(second):
        expected = first.infer(pictures(1))
        fake(devices="")
        owner = shared._owner
        assert owner is not None
        pulled.touch()
        assert owner._process.wait(60) == -signal.SIGABRT
        with pytest.raises(BackendUnavailable, match="does not answer: no Edge TPU"):
            first.infer(pictures(1))
        with pytest.raises(BackendUnavailable, match="no Edge TPU is attached"):
            second.infer(pictures(1))

        pulled.unlink()
        fake(devices=TWO)
        with pytest.raises(BackendUnavailable, match="no Edge TPU is attached"):
            first.infer(pictures(1))
        monkeypatch.setattr(shared, "_again_s", 0.0)

        assert (first.infer(pictures(1)) == expected).all()
        assert (second.infer(pictures(1)) == expected).all()


@pytest.mark.usefixtures("fake")
def test_a_device_that_hangs_is_given_up(
    built: Artifact, shared: edgetpu._Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is ended, so that the next request can open the device anew."""
    with closing(EdgeTpuBackend(built, device="edgetpu:0", slots=1)) as backend:
        expected, owner = backend.infer(pictures(1)), shared._owner
        assert owner is not None
        owner._process.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as soon:
            soon.setattr(edgetpu_owner, "TIMEOUT_S", 0.05)
            soon.setattr(edgetpu_owner, "END_S", 0.05)
            with pytest.raises(BackendUnavailable, match="does not answer"):
                backend.infer(pictures(1))

        assert owner._process.poll() == -signal.SIGKILL
        assert np.array_equal(backend.infer(pictures(1)), expected)


@pytest.mark.usefixtures("fake")
def test_a_device_stays_claimed_while_its_process_lives(
    built: Artifact, shared: edgetpu._Shared
) -> None:
    """Even if the serving process let go of the lock first, nobody else would open it."""
    backend = EdgeTpuBackend(built, device="edgetpu:0", slots=1)
    with closing(backend):
        assert shared._claim is not None
        os.close(shared._claim.handle)
        shared._claim = None

        with pytest.raises(BackendUnavailable, match=f"process {os.getpid()} holds"):
            Claim("/sys/bus/usb/devices/2-1")

    Claim("/sys/bus/usb/devices/2-1").release()


@pytest.mark.usefixtures("fake")
def test_a_file_that_the_runtime_refuses_is_a_sentence(
    built: Artifact, shared: edgetpu._Shared, tmp_path: Path
) -> None:
    """The device stays open for the other models."""
    broken = replace(built, path=tmp_path / "broken.tflite")
    broken.path.write_bytes(built.path.read_bytes()[:400])
    with closing(EdgeTpuBackend(built, device="edgetpu:0", slots=1)) as backend:
        owner = shared._owner

        with pytest.raises(ArtifactMismatch, match="broken"):
            EdgeTpuBackend(broken, device="edgetpu:0", slots=1)

        assert backend.infer(pictures(1)).shape == (1, 5)
        assert shared._owner is owner


def test_a_claim_is_given_back(tmp_path: Path) -> None:
    """The lock file names its owner and is free again afterwards."""
    claim = Claim("/dev/apex_0", tmp_path)
    (file,) = tmp_path.iterdir()

    assert file.read_text(encoding="ascii") == str(os.getpid())
    with pytest.raises(BackendUnavailable, match=f"process {os.getpid()} holds /dev/apex_0"):
        Claim("/dev/apex_0", tmp_path)
    claim.release()
    Claim("/dev/apex_0", tmp_path).release()


def test_an_uncompiled_model_says_why(int8_network: Path, tmp_path: Path) -> None:
    """The reason that the build noted is part of the sentence."""
    described = artifact(tmp_path / "model.tflite", BackendName.EDGETPU, precision=Precision.INT8)
    with pytest.raises(ArtifactMissing, match="mnv4serve build"):
        compiled_path(described)
    shutil.copyfile(int8_network, described.path)
    (tmp_path / REASON).write_text("the compiler is not on PATH\n", encoding="utf-8")

    with pytest.raises(BackendUnavailable, match=r"not compiled .*: the compiler is not on PATH"):
        compiled_path(described)

    shutil.copyfile(int8_network, tmp_path / COMPILED)
    with pytest.raises(BackendUnavailable, match="not compiled"):
        compiled_path(described)


@pytest.fixture
def sample() -> bytes:
    """A model that Google's compiler made, of 1001 labels at 128 pixels."""
    name = "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    path = Path(__file__).parents[3] / "shared/data/edgetpu" / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path.read_bytes()


def test_a_compiled_model_needs_the_chip(sample: bytes, tmp_path: Path) -> None:
    """Without a delegate that knows its operator LiteRT refuses it, which is no crash."""
    path = tmp_path / "model.tflite"
    path.write_bytes(sample)

    with pytest.raises(ArtifactMismatch, match="cannot load"):
        open_interpreter(path, 1)


def signed(content: bytes) -> bytes:
    """A model's file that says int8 where it said uint8."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for tensor in model.subgraphs[0].tensors:
        tensor.type = schema.TensorType.INT8
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_compiled_model_tells_what_it_sends(
    sample: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights once, weights and instructions with every picture; a damaged package is refused."""
    caplog.set_level("INFO", logger="mnv4serve")
    described = artifact(
        tmp_path / "model.tflite", BackendName.EDGETPU, resolution=128, n_labels=1001
    )
    (tmp_path / COMPILED).write_bytes(signed(sample))

    assert compiled_path(described) == tmp_path / COMPILED
    (record,) = caplog.records
    assert record.message == "edgetpu_model"
    found = vars(record)
    assert found["cached_bytes"] == 566_912
    assert (found["streamed_bytes"], found["instruction_bytes"]) == (0, 170_032)

    (tmp_path / COMPILED).write_bytes(signed(sample.replace(b"DWN1", b"none")))
    with pytest.raises(BackendUnavailable, match=r"damaged, .* holds no package"):
        compiled_path(described)


@pytest.mark.usefixtures("fake")
def test_slots_take_turns(built: Artifact) -> None:
    """Two slots give the same answers, and a third does not exist."""
    with closing(EdgeTpuBackend(built, device="edgetpu:0", slots=2)) as backend:
        first, second = (backend.infer(pictures(1), slot) for slot in (0, 1))

        assert np.array_equal(first, second)
        with pytest.raises(ValueError, match="slot"):
            backend.infer(pictures(1), 2)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of children, which alone import what may be no use."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def install(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


GOOGLES = """
import tflite_runtime.interpreter as tflite

def list_edge_tpus(): return []
def get_runtime_version(): return "BuildLabel(made up), RuntimeVersion(14)"
def load_edgetpu_delegate(options=None): return tflite.load_delegate("libedgetpu.so.1", options)
"""
PYCORAL = {
    "pycoral/__init__.py": "",
    "pycoral/utils/__init__.py": "",
    "pycoral/utils/edgetpu.py": GOOGLES,
    "tflite_runtime/__init__.py": "",
    "tflite_runtime/interpreter.py": "from pathlib import Path\n"
    "from ai_edge_litert import interpreter as litert\n"
    "from ai_edge_litert.interpreter import Interpreter\n"
    "def load_delegate(*given):\n"
    "    Path(__file__).with_name('asked').touch()\n"
    "    return litert.load_delegate(*given)\n",
}
"""As Google's is laid out, with LiteRT in its runtime's place, which notes that it was asked."""


@pytest.mark.usefixtures("fake")
def test_googles_pycoral_brings_its_runtime(packages: Path, built: Artifact) -> None:
    """The runtime that fits its libedgetpu loads the delegate and runs the model."""
    install(packages, PYCORAL)

    found = probe(Path("/nothing"))
    with closing(EdgeTpuBackend(built, device="edgetpu", slots=1)) as backend:
        answer = backend.infer(pictures(1))

    assert found.runtime == "tflite_runtime with BuildLabel(made up), RuntimeVersion(14)"
    assert (packages / "tflite_runtime/asked").exists()
    assert answer.shape == (1, 5)


STRANGER = {"pycoral/__init__.py": "", "pycoral/pycoral.py": "def atlas(): ...\n"}
OLD_RUNTIME = """
def load_delegate(*_): raise AssertionError("it was to be left alone")
class Interpreter:
    def __init__(self, **_): raise SystemError("CreateWrapperFromFile returned NULL")
"""
INCOMPLETE = "def list_edge_tpus(): return []\n"


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    "files",
    [
        STRANGER,
        PYCORAL | {"pycoral/utils/edgetpu.py": INCOMPLETE},
        PYCORAL | {"pycoral/utils/edgetpu.py": "raise ImportError('undefined symbol')\n"},
        PYCORAL | {"tflite_runtime/interpreter.py": OLD_RUNTIME},
    ],
    ids=["a stranger of that name", "half of it", "native part does not fit", "old runtime"],
)
def test_any_other_pycoral_is_passed_over(
    packages: Path, built: Artifact, files: Mapping[str, str]
) -> None:
    """LiteRT runs the model as if nothing of that name were installed."""
    install(packages, files)

    found = probe(Path("/nothing"))
    with closing(EdgeTpuBackend(built, device="edgetpu", slots=1)) as backend:
        answer = backend.infer(pictures(1))

    assert found.runtime.startswith("ai_edge_litert with ")
    assert answer.shape == (1, 5)


@pytest.mark.usefixtures("fake")
def test_a_pycoral_that_kills_its_process_kills_only_a_child(packages: Path) -> None:
    """The sentence names the library; this process has not imported it."""
    install(packages, PYCORAL | {"pycoral/utils/edgetpu.py": "import os; os.abort()\n"})

    found = probe(Path("/nothing"))

    assert not found.available
    assert "crashed" in found.reason
    assert "pycoral.utils.edgetpu" not in sys.modules
