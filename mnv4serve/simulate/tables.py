"""Arm tables: frozen profiles in TOML or JSON, shipped ones by name."""

import json
import math
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnv4serve.domain import Arm, BackendName, Precision, Timing
from mnv4serve.errors import ProfileError
from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.simulate.hardware import NO_DECODING, Kind

SAMPLES = 200
"""Counted for a timing whose table does not say how many it rests on."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Timing(_Strict):
    p50_ms: Positive
    p90_ms: Positive
    p99_ms: Positive | None = None
    n: Annotated[int, Field(ge=1)] = SAMPLES

    @model_validator(mode="after")
    def _in_order(self) -> "_Timing":
        values = [v for v in (self.p50_ms, self.p90_ms, self.p99_ms) if v is not None]
        if values != sorted(values):
            raise ValueError("p50_ms, p90_ms and p99_ms must not fall")
        return self


class _Arm(_Strict):
    variant: str
    backend: BackendName = BackendName.CPU
    precision: Precision = Precision.FP32
    resolution: Annotated[int, Field(ge=1)] = 224
    accuracy: Share
    service: Annotated[Mapping[Annotated[int, Field(ge=1)], _Timing], Field(min_length=1)]
    """By batch size; 1 has to be there."""

    @model_validator(mode="after")
    def _has_one(self) -> "_Arm":
        if 1 not in self.service:
            raise ValueError("service has no timing for batch 1")
        return self


class _Table(_Strict):
    name: Annotated[str, Field(min_length=1)]
    slots: Annotated[int, Field(ge=1)]
    hop_ms: NotNegative = 0.0
    reply_ms: NotNegative = 0.0
    cost: Positive = 1.0
    decode: DecodeCost = NO_DECODING
    arms: Annotated[list[_Arm], Field(min_length=1)]

    @model_validator(mode="after")
    def _decodes_in_time(self) -> "_Table":
        values = vars(self)["decode"]
        for name in DecodeCost.__slots__:
            value = getattr(values, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"decode.{name} is {value}: it must be 0 or more")
        return self


def shipped() -> tuple[str, ...]:
    """Names of the tables that come with the package."""
    folder = files(__package__) / "tables"
    return tuple(
        sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.is_file())
    )


def load_table(source: str | Path) -> Kind:
    """The kind that a shipped name or a file describes; raises ProfileError."""
    name = str(source)
    if name in shipped():
        text = (files(__package__) / "tables" / f"{name}.toml").read_text(encoding="utf-8")
        return parse_table(text, source=name, toml=True)
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(shipped())
        raise ProfileError(
            f"profile {name} is neither a readable file nor one of {known}"
        ) from error
    return parse_table(text, source=name, toml=Path(name).suffix == ".toml")


def parse_table(text: str, *, source: str, toml: bool) -> Kind:
    """The kind that a table's text describes; raises ProfileError naming the first mistake."""
    try:
        table = _Table.model_validate(tomllib.loads(text) if toml else json.loads(text))
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ProfileError(f"profile {source} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        sentence = first["msg"].removeprefix("Value error, ")
        raise ProfileError(f"profile {source}: {key}: {sentence}".replace(": :", ":")) from error
    return _kind(table, source)


def _kind(table: _Table, source: str) -> Kind:
    arms = [
        Arm(row.variant, row.backend, row.precision, table.name, row.resolution, row.accuracy)
        for row in table.arms
    ]
    if len({arm.id for arm in arms}) < len(arms):
        raise ProfileError(f"profile {source} names an arm twice")
    timings = {
        arm.id: {size: Timing(**timing.model_dump()) for size, timing in row.service.items()}
        for arm, row in zip(arms, table.arms, strict=True)
    }
    return Kind(
        name=table.name,
        arms=tuple(arms),
        timings=timings,
        slots=table.slots,
        decode=table.decode,
        hop_ms=table.hop_ms,
        reply_ms=table.reply_ms,
        cost=table.cost,
    )
