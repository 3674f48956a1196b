"""`mnv4serve doctor`: what is installed and found, what would be used, and why not the rest."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import typer
from rich.table import Table
from rich.text import Text

from mnv4serve.backends import Availability, has_device, is_simulated, probe
from mnv4serve.backends.edgetpu_heat import Heat, heats
from mnv4serve.cli.options import AsJson, Backend, ConfigFile, configure, print_json, stdout
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import BackendName
from mnv4serve.errors import BackendUnavailable
from mnv4serve.profiler import cpu_grant

COPIED = frozenset({"devices", "used by"})
"""Columns whose names stay whole, to be copied into a configuration."""


def register(app: typer.Typer) -> None:
    app.command()(doctor)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One backend on this machine under a configuration."""

    found: Availability
    pools: tuple[str, ...]
    """The pools that would use it."""
    why_not: str
    """Why no pool would; empty where one does."""
    real: str = ""
    """What there is beside the simulated devices that the pools name."""


def doctor(*, backend: Backend = None, as_json: AsJson = False, config: ConfigFile = None) -> None:
    """Tell what is installed and found, what would be used, and why not the rest.

    With --backend: only that one, and exit code 1 where it cannot be used here.
    """
    settings = configure(config=config)
    names = [name for name in BackendName if backend in (None, name)]
    diagnoses = [diagnose(settings, name) for name in names]
    if as_json:
        print_json(_document(diagnoses))
    else:
        stdout.print(_table(diagnoses))
        stdout.print(f"Python {sys.version.split()[0]}, CPU grant {cpu_grant(None)} cores")
    if backend is not None and not diagnoses[0].found.available:
        raise BackendUnavailable(backend, diagnoses[0].found.reason)


def diagnose(settings: ServiceConfig, name: BackendName) -> Diagnosis:
    """What a backend offers here, and which pools would take it."""
    named = [pool for pool in settings.pools if name in pool.backends]
    if not any(is_simulated(pool.device) for pool in named):
        return judge(probe(name), named)
    diagnosis, real = judge(probe(name, simulated=True), named), probe(name)
    there = f"real ones: {', '.join(real.devices)}" if real.available else real.reason
    return replace(diagnosis, real=f"simulated; {there}")


def judge(found: Availability, named: Sequence[PoolConfig]) -> Diagnosis:
    """Which of the pools that name a backend can have it, and why none where that is so."""
    using = tuple(pool.label for pool in named if has_device(found, pool.device))
    if using:
        return Diagnosis(found, using, "")
    if not found.available:
        return Diagnosis(found, (), found.reason)
    if named:
        there, wanted = ", ".join(found.devices), ", ".join(pool.device for pool in named)
        return Diagnosis(found, (), f"the configuration wants {wanted}, here is {there}")
    example = f"{{device: {found.devices[0]!r}, backends: [{found.backend}]}}"
    return Diagnosis(found, (), f"no pool names it: add {example} to `pools`")


def _table(diagnoses: Sequence[Diagnosis]) -> Table:
    temperatures = heats()
    table = Table(title="backends")
    for column in ("backend", "runtime", "devices", "precisions", "used by", "why not"):
        table.add_column(column, no_wrap=column in COPIED)
    for one in diagnoses:
        table.add_row(
            one.found.backend,
            one.found.runtime or "not installed",
            "\n".join(_hot(device, temperatures) for device in one.found.devices),
            "\n".join(one.found.precisions),
            "\n".join(one.pools),
            Text(one.why_not or one.real),  # which holds brackets that are no markup
            style=None if one.pools else "dim",
        )
    return table


def _hot(device: str, temperatures: Mapping[str, Heat]) -> str:
    heat = temperatures.get(device.partition(":")[2])
    if heat is None:
        return device
    slowed = f", at {heat.clock_ratio:.0%} of its clock for heat" if heat.clock_ratio < 1.0 else ""
    return f"{device}\n({heat.celsius:.0f} °C{slowed})"


def _document(diagnoses: Sequence[Diagnosis]) -> dict[str, object]:
    return {
        "python": sys.version.split()[0],
        "cpus": cpu_grant(None),
        "temperatures": {
            path: {"celsius": heat.celsius, "clock_ratio": heat.clock_ratio}
            for path, heat in heats().items()
        },
        "backends": [
            {
                "backend": one.found.backend,
                "available": one.found.available,
                "runtime": one.found.runtime,
                "devices": list(one.found.devices),
                "precisions": list(one.found.precisions),
                "reason": one.found.reason,
                "used_by": list(one.pools),
                "why_not": one.why_not,
                "real": one.real,
            }
            for one in diagnoses
        ],
    }
