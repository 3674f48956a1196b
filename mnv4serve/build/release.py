"""From trained weights to a release: ranges, reference logits, artifacts and what they achieve.

Everything that models/catalog.toml says about a variant is computed here, so that it can be
computed again. Choices are made on the dev split; held-out pictures are read once an artifact.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnv4serve.artifacts import Target
from mnv4serve.build.assemble import reference_model
from mnv4serve.build.catalog_file import save_catalog, with_variant, without_variant
from mnv4serve.build.confidence import Surprise, fit_temperature, log_loss, surprise
from mnv4serve.build.files import describe, remove_files, write_file
from mnv4serve.build.findings import VariantFindings, load_findings, save_findings
from mnv4serve.build.judge import Judge, Report, Sources
from mnv4serve.build.ready import renewed
from mnv4serve.build.rounding import (
    ATTEMPTS,
    LARGEST_LOSS,
    Attempt,
    calibration_files,
    choose_ranges,
    exact_target,
    targets_of,
)
from mnv4serve.build.verify import pictures, reference_logits
from mnv4serve.catalog import Catalog, Certified, Checkpoint, Variant
from mnv4serve.domain import Precision
from mnv4serve.errors import ArtifactMismatch, CatalogError

__all__ = ["Releaser", "Sources", "calibration_files", "describe", "write_file"]

Progress = Callable[[str, int, int], None]
"""Told what is done next, how many steps are done and how many there are."""


@dataclass(frozen=True, slots=True)
class Releaser:
    """Releases checkpoints of one zoo into the catalog they belong to."""

    zoo: str
    sources: Sources
    state_dir: Path
    report: Report
    again: str | None = None
    """Why artifacts may read held-out pictures again; None reads each once and never more."""
    strangers: Path | None = None
    """Pictures of none of the classes, to find out what the networks say to them."""
    attempts: Sequence[Attempt] = ATTEMPTS
    largest_loss: float = LARGEST_LOSS
    """Accuracy that int8 may lose at most on dev, with 95 % confidence."""
    progress: Progress | None = None

    def certify(
        self, catalog: Catalog, checkpoint: Checkpoint, resolutions: Sequence[int] = ()
    ) -> Catalog:
        """Release the named resolutions, or of all exported ones those that dev finds worth having.

        Variants of the checkpoint at other resolutions leave the catalog only in the second case.
        """
        if resolutions:
            return self.release(catalog, checkpoint, resolutions)
        exported = exported_resolutions(catalog, self.zoo, checkpoint.name)
        kept = self.worth_having(catalog, checkpoint, exported)
        for variant in catalog.zoos[self.zoo].variants:
            if variant.checkpoint == checkpoint.name and variant.resolution not in kept:
                catalog = without_variant(catalog, self.zoo, variant.name)
        return self.release(catalog, checkpoint, kept)

    def release(
        self, catalog: Catalog, checkpoint: Checkpoint, resolutions: Sequence[int]
    ) -> Catalog:
        """Write a checkpoint's variants into models/ and give back the catalog with them.

        Existing entries of the same names are replaced; an interrupted release can be repeated.
        """
        judge = self._judge()
        for done, resolution in enumerate(resolutions):
            self._step(f"{checkpoint.name}@{resolution}", done, len(resolutions))
            before = catalog
            begun, variant = self._begun(catalog, checkpoint, resolution)
            variant, findings = self._chosen(begun, checkpoint, variant, judge)
            catalog = with_variant(catalog, self.zoo, checkpoint, variant)
            certified = self._certified(catalog, variant, findings, judge)
            ready = renewed(before, catalog, self.zoo, variant.name)
            variant = variant.model_copy(update={"certified": certified, "ready": ready})
            catalog = with_variant(catalog, self.zoo, checkpoint, variant)
            self._note(catalog, variant, findings)
            save_catalog(catalog)
        return catalog

    def worth_having(
        self, catalog: Catalog, checkpoint: Checkpoint, resolutions: Sequence[int]
    ) -> tuple[int, ...]:
        """The resolutions that are more accurate on dev than every smaller one.

        What only the others need is removed from models/.
        """
        judge, best = self._judge(), -1.0
        kept, left_out = [], {}
        for done, resolution in enumerate(sorted(resolutions)):
            self._step(f"{checkpoint.name}@{resolution} on dev", done, len(resolutions))
            begun, variant = self._begun(catalog, checkpoint, resolution)
            accuracy = judge.on_dev(begun, exact_target(begun.zoos[self.zoo], variant)).accuracy
            if accuracy > best:
                best = accuracy
                kept.append(resolution)
                continue
            self.report(
                f"{variant.name} is left out: {accuracy:.4f} on dev, a smaller one {best:.4f}"
            )
            left_out[resolution] = round(accuracy, 4)
            remove_files(catalog, self.zoo, variant)
        findings = load_findings(catalog.root, self.zoo, checkpoint.name)
        findings = findings.model_copy(update={"left_out": left_out})
        save_findings(catalog.root, self.zoo, checkpoint.name, findings)
        return tuple(kept)

    def _judge(self) -> Judge:
        return Judge(self.zoo, self.sources, self.state_dir, self.report, self.again)

    def _step(self, step: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(step, done, total)

    def _begun(
        self, catalog: Catalog, checkpoint: Checkpoint, resolution: int
    ) -> tuple[Catalog, Variant]:
        """A variant with the logits that its builds are proven against."""
        name = f"{checkpoint.name}@{resolution}"
        batch_norm = describe(catalog, f"weights/{self.zoo}/{name}.bn.safetensors")
        variant = Variant(
            name=name,
            checkpoint=checkpoint.name,
            resolution=resolution,
            batch_norm=batch_norm,
            reference=batch_norm,  # until there is one
        )
        catalog = with_variant(catalog, self.zoo, checkpoint, variant)
        zoo = catalog.zoos[self.zoo]
        pixels, packed = pictures(catalog, zoo, resolution), io.BytesIO()
        model = reference_model(catalog, zoo, variant)
        np.savez(packed, logits=reference_logits(model, pixels, zoo.preprocessing))
        file = write_file(catalog, f"verify/{self.zoo}/{name}.npz", packed.getvalue())
        variant = variant.model_copy(update={"reference": file})
        return with_variant(catalog, self.zoo, checkpoint, variant), variant

    def _chosen(
        self, catalog: Catalog, checkpoint: Checkpoint, variant: Variant, judge: Judge
    ) -> tuple[Variant, VariantFindings]:
        """The variant with the temperature and the ranges that dev prefers."""
        target = exact_target(catalog.zoos[self.zoo], variant)
        score = judge.on_dev(catalog, target)
        temperature = fit_temperature(score.logits, score.labels)
        losses = [log_loss(score.logits, score.labels, t) for t in (1.0, temperature)]
        ranged, others = choose_ranges(
            catalog,
            checkpoint,
            variant,
            judge,
            attempts=self.attempts,
            largest_loss=self.largest_loss,
        )
        findings = VariantFindings(
            dev_pictures=score.n,
            temperature=temperature,
            log_loss=(round(losses[0], 4), round(losses[1], 4)),
            rounding=(*others, *ranged.rounding),
            strangers=self._surprised(catalog, target, judge, temperature),
        )
        return ranged.variant.model_copy(update={"temperature": temperature}), findings

    def _surprised(
        self, catalog: Catalog, target: Target, judge: Judge, temperature: float
    ) -> tuple[Surprise, Surprise] | None:
        if self.strangers is None:
            return None
        logits = judge.on_strangers(catalog, target, self.strangers).logits
        return surprise(logits, 1.0), surprise(logits, temperature)

    def _certified(
        self, catalog: Catalog, variant: Variant, findings: VariantFindings, judge: Judge
    ) -> tuple[Certified, ...]:
        """Every artifact's figures; int8 that lost too much gets none, so only pins use it.

        Nor does a rounded one that its build refuses; fp32 has to be right.
        """
        refused = findings.refused()
        kept = [
            target
            for target in targets_of(catalog.zoos[self.zoo], variant)
            if target.precision is not Precision.INT8 or target.backend not in refused
        ]
        figures = []
        for target in kept:
            try:
                figures.append(self._figures(catalog, variant, target, judge))
            except ArtifactMismatch as error:
                if target.precision is Precision.FP32:
                    raise
                self.report(str(error))
        return tuple(figures)

    def _figures(
        self, catalog: Catalog, variant: Variant, target: Target, judge: Judge
    ) -> Certified:
        reading = judge.on_held_out(catalog, target, variant.temperature)
        return Certified(
            backend=target.backend,
            precision=target.precision,
            accuracy=round(reading.right / reading.n, 6),
            n=reading.n,
            split=reading.split,
            dev=round(judge.on_dev(catalog, target).accuracy, 6),
            reading=reading.artifact,
            deviation=judge.deviation(catalog, target),
        )

    def _note(self, catalog: Catalog, variant: Variant, findings: VariantFindings) -> None:
        known = load_findings(catalog.root, self.zoo, variant.checkpoint)
        variants = {**known.variants, variant.name: findings}
        known = known.model_copy(update={"variants": variants})
        save_findings(catalog.root, self.zoo, variant.checkpoint, known)


def exported_resolutions(catalog: Catalog, zoo: str, checkpoint: str) -> tuple[int, ...]:
    """The resolutions that a checkpoint has batch-norm statistics for, smallest first."""
    folder = catalog.root / f"weights/{zoo}"
    names = [path.name for path in folder.glob(f"{checkpoint}@*.bn.safetensors")]
    if not names:
        raise CatalogError(f"{folder} has no {checkpoint}@PX.bn.safetensors: export weights first")
    return tuple(sorted(int(name.split("@")[1].split(".")[0]) for name in names))


def read_checkpoint(catalog: Catalog, zoo: str, name: str, *, data: str) -> Checkpoint:
    """A checkpoint's entry from its weights and the record of its training."""
    path = catalog.root / f"weights/{zoo}/{name}.json"
    weights = describe(catalog, f"weights/{zoo}/{name}.safetensors")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        run = record["run"]
        return Checkpoint(
            name=name,
            architecture=record["architecture"],
            weights=weights,
            data=data,
            command=run["command"],
            seed=run["recipe"]["seed"],
            date=run["updated"][:10],
            card="README.md",
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{path} is no record of training: export the weights again") from error
