"""What this machine can run: catalog, built artifacts and backends brought together."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mnv4serve import artifacts
from mnv4serve.artifacts import Target
from mnv4serve.backends import Artifact, Availability, probe
from mnv4serve.catalog import Catalog, Variant, Zoo, load_catalog
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import Arm, BackendName, Precision
from mnv4serve.errors import ArtifactMissing, BackendUnavailable

OFFERED = {
    BackendName.CPU: (Precision.FP32, Precision.BF16, Precision.INT8),
    BackendName.ONNX: (Precision.FP32, Precision.INT8),
}
"""Precisions that are built for a backend where the hardware executes them."""


@dataclass(frozen=True, slots=True)
class Loadable:
    """An arm of this host with the artifact that it loads."""

    arm: Arm
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class Host:
    """One zoo on one machine."""

    catalog: Catalog
    zoo_name: str
    zoo: Zoo
    state_dir: Path
    availabilities: tuple[Availability, ...]
    targets: tuple[Target, ...]
    """What could be built for the configured pools here."""

    def missing(self) -> tuple[Target, ...]:
        """Targets whose artifact is not there or not intact."""
        return tuple(target for target in self.targets if self._find(target) is None)

    def loadable(self, pool: PoolConfig) -> tuple[Loadable, ...]:
        """The pool's arms; raises ArtifactMissing naming the command that builds them."""
        targets = [target for target in self.targets if target.backend in pool.backends]
        found = [(target, self._find(target)) for target in targets]
        absent = [target for target, artifact in found if artifact is None]
        if absent:
            raise ArtifactMissing(
                f"{len(absent)} artifacts are missing, {absent[0]} among them: run `mnv4serve build`"
            )
        return tuple(
            Loadable(self._arm(target, pool.device), artifact)
            for target, artifact in found
            if artifact is not None
        )

    def _find(self, target: Target) -> Artifact | None:
        variant = self.zoo.variant(target.variant)
        return artifacts.find(
            self.state_dir,
            self.zoo,
            variant,
            backend=target.backend,
            precision=target.precision,
        )

    def _arm(self, target: Target, device: str) -> Arm:
        variant = self.zoo.variant(target.variant)
        return Arm(
            variant=variant.name,
            backend=target.backend,
            precision=target.precision,
            device=device,
            resolution=variant.resolution,
            accuracy=variant.accuracy(target.backend, target.precision),
        )


def survey(config: ServiceConfig, *, catalog: Catalog | None = None) -> Host:
    """Find out what can run here; raises BackendUnavailable where no backend can."""
    catalog = catalog or load_catalog(config.models)
    zoo_name, zoo = catalog.zoo(config.zoo)
    names = tuple(dict.fromkeys(name for pool in config.pools for name in pool.backends))
    availabilities = tuple(probe(name) for name in names)
    usable = [found for found in availabilities if found.available]
    if not usable:
        reasons = "; ".join(f"{found.backend}: {found.reason}" for found in availabilities)
        raise BackendUnavailable(", ".join(names), reasons)
    targets = tuple(
        target for found in usable for variant in zoo.variants for target in _targets(variant, found)
    )
    return Host(catalog, zoo_name, zoo, config.state_dir, availabilities, targets)


def _targets(variant: Variant, found: Availability) -> Iterator[Target]:
    for precision in OFFERED.get(found.backend, ()):
        native = precision in found.precisions
        if native and (precision is not Precision.INT8 or variant.ranges is not None):
            yield Target(variant.name, found.backend, precision)
