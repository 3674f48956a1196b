"""What certifying a checkpoint found out beside accuracies: kept for its card, not for serving."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mnv4serve.build.confidence import Surprise
from mnv4serve.build.files import replace_file
from mnv4serve.domain import BackendName
from mnv4serve.errors import CatalogError


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rounding(_Frozen):
    """int8 against fp32 on the same dev pictures."""

    attempt: str
    """How the ranges were computed."""
    backend: BackendName
    won: int
    """Pictures that only int8 labels right."""
    lost: int
    """Pictures that only fp32 labels right."""
    n: int
    bound: float
    """Upper one-sided 95 % bound of the loss of accuracy."""
    accepted: bool


class VariantFindings(_Frozen):
    """What is known of one variant."""

    dev_pictures: int
    temperature: float
    log_loss: tuple[float, float]
    """On dev, at temperature 1 and at the variant's own."""
    rounding: tuple[Rounding, ...] = ()
    """Every attempt at ranges; the last one of each backend is what was taken."""
    strangers: tuple[Surprise, Surprise] | None = None
    """Pictures of none of the classes, at temperature 1 and at the variant's own."""

    def taken(self) -> tuple[Rounding, ...]:
        """The attempt that each backend was released with."""
        return tuple({one.backend: one for one in self.rounding}.values())

    def refused(self) -> frozenset[BackendName]:
        """Backends whose int8 may lose too much."""
        return frozenset(one.backend for one in self.taken() if not one.accepted)


class Findings(_Frozen):
    """What is known of a checkpoint."""

    variants: dict[str, VariantFindings] = {}
    left_out: dict[int, float] = {}
    """Resolutions that a smaller one beats on dev, with their accuracy there."""


def findings_path(models: Path, zoo: str, checkpoint: str) -> Path:
    return models / f"weights/{zoo}/{checkpoint}.findings.json"


def load_findings(models: Path, zoo: str, checkpoint: str) -> Findings:
    """What was found before; nothing where there is no file."""
    path = findings_path(models, zoo, checkpoint)
    try:
        return Findings.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Findings()
    except (OSError, ValidationError) as error:
        raise CatalogError(f"{path} cannot be read: certify the checkpoint again") from error


def save_findings(models: Path, zoo: str, checkpoint: str, findings: Findings) -> None:
    text = findings.model_dump_json(indent=1, exclude_defaults=True) + "\n"
    replace_file(findings_path(models, zoo, checkpoint), text.encode())
