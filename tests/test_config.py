"""Where configuration comes from, which source wins and what is refused."""

from pathlib import Path

import pytest

from mnv4serve.config import PoolConfig, ServiceConfig, load_config
from mnv4serve.domain import BackendName
from mnv4serve.errors import BadConfig


def _file(folder: Path, text: str) -> Path:
    path = folder / "service.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """Each source overrides the one below it, key by key."""
    file = _file(tmp_path, "port: 1\ngrpc_port: 2\nmax_queue: 3\n")
    environment = {"MNV4SERVE_PORT": "11", "MNV4SERVE_GRPC_PORT": "12"}

    config = load_config(file=file, flags={"port": 21}, environment=environment)

    assert (config.port, config.grpc_port, config.max_queue) == (21, 12, 3)
    assert config.host == "127.0.0.1"


def test_a_flag_that_was_not_given_does_not_count() -> None:
    """None means that the flag is absent, not that the value is unset."""
    config = load_config(file=None, flags={"port": None}, environment={"MNV4SERVE_PORT": "11"})

    assert config.port == 11


def test_environment_holds_nested_values_as_yaml() -> None:
    """Pools can be configured through one environment variable."""
    environment = {"MNV4SERVE_POOLS": "[{device: cpu, backends: [onnx], slots: 1}]"}

    config = load_config(file=None, flags={}, environment=environment)

    assert config.pools == (PoolConfig(backends=(BackendName.ONNX,), slots=1),)


def test_unrelated_and_locating_environment_is_left_alone() -> None:
    """Only our prefix is read, and the names that locate files are no configuration keys."""
    environment = {"HOME": "/", "MNV4SERVE_CONFIG": "x.yaml"}

    assert load_config(file=None, flags={}, environment=environment) == ServiceConfig()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot: 1\n", "prot"),
        ("port: many\n", "port"),
        ("on_time_target: 1.5\n", "on_time_target"),
        ("default_budget_ms: .nan\n", "default_budget_ms"),
        ("pools: []\n", "pools"),
        ("pools: [{device: cpu}, {device: cpu}]\n", "device"),
        ("pools: [{backends: [tpu]}]\n", "pools.0.backends.0"),
        ("port: 9000\n", "grpc_port"),
        ("- port\n", "keys and values"),
        ("port: [\n", "cannot be read"),
        ("1: 2\n", "1"),
    ],
)
def test_a_wrong_file_is_refused_naming_the_key(tmp_path: Path, text: str, named: str) -> None:
    """One sentence says which key is wrong."""
    with pytest.raises(BadConfig, match=named) as caught:
        load_config(file=_file(tmp_path, text), flags={}, environment={})

    assert "\n" not in str(caught.value)


def test_an_unknown_key_of_a_pool_is_told_the_keys_of_pools(tmp_path: Path) -> None:
    """The sentence helps only if it names what may stand there."""
    text = "pools: [{device: cpu, autoscaling: {target_bsuy: 0.5}}]"

    with pytest.raises(BadConfig, match=r"'pools\.0\.autoscaling\.target_bsuy'.*target_busy"):
        load_config(file=_file(tmp_path, text), flags={}, environment={})


def test_an_unknown_environment_name_is_refused() -> None:
    """A misspelt variable is an error rather than silently without effect."""
    with pytest.raises(BadConfig, match="prot"):
        load_config(file=None, flags={}, environment={"MNV4SERVE_PROT": "1"})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The path that could not be read is named."""
    with pytest.raises(BadConfig, match=r"absent\.yaml"):
        load_config(file=tmp_path / "absent.yaml", flags={}, environment={})


def test_environment_beats_file_for_the_models_folder(tmp_path: Path) -> None:
    """The folder follows the same order as every other key."""
    file = _file(tmp_path, "models: /from-file\n")

    config = load_config(file=file, flags={}, environment={"MNV4SERVE_MODELS": "/from-env"})

    assert config.models == Path("/from-env")


def test_a_home_folder_is_expanded() -> None:
    """A tilde is the user's home, as in a shell."""
    config = load_config(file=None, flags={}, environment={"MNV4SERVE_STATE_DIR": "~/state"})

    assert config.state_dir == Path.home() / "state"


def test_unreadable_yaml_in_the_environment_is_one_sentence() -> None:
    """The variable is named."""
    with pytest.raises(BadConfig, match="MNV4SERVE_POOLS cannot be read"):
        load_config(file=None, flags={}, environment={"MNV4SERVE_POOLS": "[a"})
