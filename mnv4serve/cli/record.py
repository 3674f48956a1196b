"""Measured accuracies in the place of published or unknown ones, in zoos of the user's own."""

from collections.abc import Sequence
from pathlib import Path

from mnv4serve.artifacts import folder_of, read_manifest
from mnv4serve.build import own
from mnv4serve.catalog import Certified, Variant, Zoo
from mnv4serve.cli.options import tell
from mnv4serve.config import ServiceConfig
from mnv4serve.evaluation import Score
from mnv4serve.host import Host
from mnv4serve.profiler import Candidate

Files = Sequence[tuple[Path, int]]


def record_score(
    site: Host, settings: ServiceConfig, found: Candidate, score: Score, *, split: str
) -> None:
    """Write an arm's accuracy down where its variant came with a published one, or with none.

    Zoos of models/ and trained ones keep what was certified. A few classes would say nothing of
    the others, so all have to be there, unless there is nothing else to compare with.
    """
    variant = site.zoo.variant(found.arm.variant)
    ours = variant.published is None and variant.network is None
    if ours or not own.is_own(site.catalog, settings.zoos):
        return
    shown, known = len(set(score.labels.tolist())), len(site.zoo.labels)
    if shown < known and not _alike(site.zoo, variant, split):
        tell(f"{found.arm.id} keeps its accuracy: {split} shows {shown} of {known} classes")
        return
    measured = Certified(
        backend=found.arm.backend,
        precision=found.arm.precision,
        accuracy=round(score.accuracy, 6),
        n=score.n,
        split=split,
        deviation=_deviation(site, found),
    )
    own.record(site.catalog, variant.name, measured)
    tell(f"{found.arm.id} is routed by {score.accuracy:.4f} from now on, measured on {score.n}")


def _alike(zoo: Zoo, variant: Variant, split: str) -> bool:
    """Whether all variants that came without an accuracy are judged by the same pictures."""
    return variant.network is not None and all(
        entry.published is None and all(known.split == split for known in entry.certified)
        for entry in zoo.variants
    )


def _deviation(site: Host, found: Candidate) -> float:
    manifest = read_manifest(folder_of(site.state_dir) / found.artifact.digest)
    assert manifest is not None
    return float(f"{manifest.deviation:.3g}")
