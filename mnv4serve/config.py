"""The one configuration model; flag > environment (`MNV4SERVE_...`) > file > default."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mnv4serve.domain import BackendName
from mnv4serve.errors import BadConfig

ENVIRONMENT_PREFIX = "MNV4SERVE_"
FLAG_ONLY = frozenset({"CONFIG"})
"""Environment names that are read before the configuration exists."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]


def _default_state_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mnv4serve"


def _default_zoos() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "mnv4serve" / "zoos"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AutoscalingConfig(_Frozen):
    """When a deployment with `max_replicas` gets more replicas or fewer."""

    target_busy: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of its slots' time that a replica should work; the rest keeps waits short in bursts."""
    target_wait_ms: Positive = 5.0
    """A longer predicted wait asks for one replica more than the work alone."""
    upscale_delay_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    """How long more replicas have to be wanted before they are started."""
    downscale_delay_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    """How long fewer have to be enough before some are stopped."""


class PoolConfig(_Frozen):
    """One device with the backends that run there."""

    device: str = "cpu"
    backends: tuple[BackendName, ...] = (BackendName.CPU, BackendName.ONNX, BackendName.LITERT)
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Cores this pool may use; the whole CPU grant where None."""
    slots: Annotated[int, Field(ge=1, le=64)] | None = None
    """Jobs executed at the same time; measured where None."""
    threads: Annotated[int, Field(ge=1, le=64)] | None = None
    """Threads of one job; measured where None."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9:_.-]*$", max_length=40)] | None = None
    """How the device is called in arms and metrics; needed where two pools share one device."""

    placement: Literal["colocated", "deployment"] = "colocated"
    """Under Ray: inside each ingress replica, or in replicas of its own. The local engine has
    every pool in its one process."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Of a deployment, each the owner of one device."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    """A deployment scales between `replicas` and this many; fixed where None."""
    autoscaling: AutoscalingConfig = AutoscalingConfig()
    """Which work asks for how many of them."""
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """GPUs of each replica of a deployment."""
    resources: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Ray's custom resources of each replica of a deployment, for example `edgetpu: 1`."""

    @property
    def label(self) -> str:
        """The device as arms and metrics name it."""
        return self.name or self.device

    @model_validator(mode="after")
    def _scales(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("max_replicas must not be below replicas")
        return self


class TlsConfig(_Frozen):
    """PEM files for both transports."""

    certificate: Path
    key: Path


class RayConfig(_Frozen):
    """What only the ray engine needs."""

    address: str | None = None
    """Of a running cluster, for example `auto`; a cluster of this machine is started where None."""
    ingress_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    ingress_resources: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Ray's custom resources of each ingress replica, to keep it to certain nodes."""
    object_store_bytes: Annotated[int, Field(ge=75 << 20)] = 128 << 20
    """Of a cluster that is started here; pictures do not travel through it."""
    metrics_port: Port = 8080
    """Where the node of a cluster that is started here exports metrics."""
    probe_interval_s: Positive = 0.25
    """How often a pool in another process is asked whether it is there."""
    probe_timeout_s: Positive = 1.0
    """Without an answer for so long it counts as down."""


class ServiceConfig(_Frozen):
    """Everything that can be configured, with the defaults of a laptop."""

    engine: Literal["local", "ray"] = "local"
    zoo: str | None = None
    """The catalog's default zoo where None."""
    models: Path | None = None
    """Found in `./models`, then in the installed package, where None."""
    state_dir: Path = Field(default_factory=_default_state_dir)
    """Artifacts and profiles: all of it can be made again."""
    zoos: Path = Field(default_factory=_default_zoos)
    """Zoos that were pulled or trained here, a folder each."""

    host: str = "127.0.0.1"
    port: Port = 8000
    grpc_port: Port = 9000
    tls: TlsConfig | None = None
    api_keys: tuple[str, ...] = ()
    """Where given, each request has to carry one of them as `Authorization: Bearer KEY`."""

    pools: Annotated[tuple[PoolConfig, ...], Field(min_length=1)] = (PoolConfig(),)

    default_budget_ms: Positive = 100.0
    policy: str = "priced"
    """How arms are chosen; the others are there to compare with."""
    on_time_target: Annotated[float, Field(gt=0, lt=1)] = 0.95
    late_limit_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1000.0

    max_body_bytes: Annotated[int, Field(ge=1024)] = 10_000_000
    max_pixels: Annotated[int, Field(ge=1024)] = 50_000_000
    max_queue: Annotated[int, Field(ge=1)] = 256
    max_arms: Annotated[int, Field(ge=1, le=64)] = 12
    memory_limit_bytes: Annotated[int, Field(ge=1 << 20)] = 512 << 20
    read_timeout_s: Positive = 10.0
    drain_delay_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    drain_timeout_s: Positive = 30.0

    ray: RayConfig = RayConfig()

    @field_validator("models", "state_dir", "zoos")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        labels = [pool.label for pool in self.pools]
        if len(set(labels)) < len(labels):
            raise ValueError("each device may appear in one pool only, unless each has a `name`")
        if self.port and self.port == self.grpc_port:
            raise ValueError("port and grpc_port must differ")
        return self


_INNER: dict[int | str, type[BaseModel]] = {
    "pools": PoolConfig,
    "autoscaling": AutoscalingConfig,
    "tls": TlsConfig,
    "ray": RayConfig,
}
"""Which keys there are below a key."""


def load_config(
    *, file: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> ServiceConfig:
    """The validated configuration; flags that are None do not count.

    Raises BadConfig naming the offending key.
    """
    merged = _read_file(file) | _read_environment(environment)
    merged |= {key: value for key, value in flags.items() if value is not None}
    try:
        return ServiceConfig.model_validate(merged)
    except ValidationError as error:
        raise BadConfig(_sentence(error)) from error


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadConfig(f"configuration file {file} cannot be read: {reason}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadConfig(f"configuration file {file} must hold keys and values")
    return values


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    named = {
        name.removeprefix(ENVIRONMENT_PREFIX): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    return {
        name.lower(): _parsed(name, value) if value.startswith(("[", "{")) else value
        for name, value in named.items()
        if name not in FLAG_ONLY
    }


def _parsed(name: str, value: str) -> object:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise BadConfig(f"{ENVIRONMENT_PREFIX}{name} cannot be read: {reason}") from error


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        inside = [_INNER[part] for part in first["loc"][:-1] if part in _INNER]
        known = ", ".join((inside or [ServiceConfig])[-1].model_fields)
        return f"unknown configuration key {key!r}; known keys: {known}"
    return f"configuration {key}: {message}" if key else f"configuration: {message}"
