"""Published checkpoints into the zoo `imagenet1k` of the user's own, ready to build."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors.torch import save

from mnv4serve.arch.model import (
    BATCH_NORM_STATISTICS,
    MobileNetV4,
    create_model,
    load_weights,
)
from mnv4serve.build import own
from mnv4serve.build.hub import Fetched
from mnv4serve.build.published import DATA, PREPROCESSING, SOURCE, TITLE, ZOO, Offer, Tag
from mnv4serve.build.verify import pictures, reference_logits
from mnv4serve.catalog import Catalog, Checkpoint, File, Label, Published, Variant, Zoo
from mnv4serve.errors import CatalogError, WeightsMismatch

LABELS = "labels/imagenet1k.tsv"

Fetch = Callable[[Tag, str | None], Fetched]
"""A tag's weights file; at a commit where one is given."""
Report = Callable[[str], None]
"""Told each thing that was done, in one line."""


@dataclass(frozen=True, slots=True)
class Puller:
    """Adds published variants to the zoo, one after the other."""

    zoos: Path
    shipped: Catalog
    """Gives labels and verification pictures."""
    fetch: Fetch
    report: Report

    def pull(self, offers: Iterable[Offer]) -> Catalog:
        """The catalog with the variants added; an interrupted pull can be repeated.

        Raises what fetching raises, WeightsMismatch where a file is of another architecture, and
        StorageError; what was added before stays.
        """
        catalog = self._zoo()
        wanted = [offer for offer in offers if not self._present(catalog, offer)]
        for tag in dict.fromkeys(offer.tag for offer in wanted):
            catalog = self._add(catalog, tag, [offer for offer in wanted if offer.tag == tag])
        return catalog

    def _zoo(self) -> Catalog:
        _, example = self.shipped.zoo()
        zoo = Zoo(
            title=TITLE,
            labels=read_labels(self.shipped.root / LABELS),
            preprocessing=PREPROCESSING,
            pictures=example.pictures,
            checkpoints=(),
            variants=(),
        )
        return own.begin(self.zoos, ZOO, zoo, pictures=self.shipped.read(example.pictures))

    def _present(self, catalog: Catalog, offer: Offer) -> bool:
        _, zoo = catalog.zoo()
        if offer.variant not in {variant.name for variant in zoo.variants}:
            return False
        try:
            catalog.read(zoo.checkpoint(offer.tag.name).weights)
        except CatalogError:
            return False
        self.report(f"{offer.variant} is there already")
        return True

    def _add(self, catalog: Catalog, tag: Tag, offers: Iterable[Offer]) -> Catalog:
        _, zoo = catalog.zoo()
        known = {checkpoint.name: checkpoint for checkpoint in zoo.checkpoints}
        pinned = known[tag.name].revision if tag.name in known else None
        fetched = self.fetch(tag, pinned)
        model = _loaded(tag, fetched.path, classes=len(zoo.labels))
        checkpoint = _checkpoint(
            tag, own.adopt(catalog, f"weights/{tag.name}.safetensors", fetched.path), fetched
        )
        statistics = own.put(catalog, f"weights/{tag.name}.bn.safetensors", _statistics(model))
        for offer in offers:
            variant = self._variant(catalog, offer, statistics, model)
            catalog = own.save(catalog, checkpoint, variant)
            self.report(f"{offer.variant} from {tag.repository}, published {offer.accuracy:.1%}")
        return catalog

    def _variant(
        self, catalog: Catalog, offer: Offer, statistics: File, model: MobileNetV4
    ) -> Variant:
        _, zoo = catalog.zoo()
        preprocessing = offer.preprocessing
        pixels = pictures(catalog, zoo, offer.resolution)
        packed = io.BytesIO()
        np.savez(packed, logits=reference_logits(model, pixels, preprocessing))
        return Variant(
            name=offer.variant,
            checkpoint=offer.tag.name,
            resolution=offer.resolution,
            preprocessing=None if preprocessing == zoo.preprocessing else preprocessing,
            batch_norm=statistics,
            reference=own.put(catalog, f"verify/{offer.variant}.npz", packed.getvalue()),
            published=Published(accuracy=offer.accuracy, data=DATA, source=SOURCE),
        )


def read_labels(path: Path) -> tuple[Label, ...]:
    """Ids and names from a file with one class a line; raises CatalogError where it is broken."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        pairs = [line.split("\t") for line in lines if not line.startswith("#")]
        return tuple(Label(id=key, name=name) for key, name in pairs)
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path} is missing or broken: restore it from the release") from error


def _loaded(tag: Tag, path: Path, *, classes: int) -> MobileNetV4:
    model = create_model(tag.architecture, classes)
    try:
        load_weights(model, path)
    except WeightsMismatch as error:
        message = f"{tag.repository} is no checkpoint of {tag.architecture}: {error}"
        raise WeightsMismatch(message) from error
    return model.eval()


def _checkpoint(tag: Tag, weights: File, fetched: Fetched) -> Checkpoint:
    return Checkpoint(
        name=tag.name,
        architecture=tag.architecture,
        weights=weights,
        data="ImageNet-12k, then ImageNet-1k" if "in12k" in tag.tag else "ImageNet-1k",
        command=f"mnv4serve pull {ZOO} {tag.name}",
        date=datetime.now(UTC).date().isoformat(),
        card=f"https://huggingface.co/{tag.repository}",
        revision=fetched.revision,
    )


def _statistics(model: MobileNetV4) -> bytes:
    state = model.state_dict()
    return save({k: v.contiguous() for k, v in state.items() if k.endswith(BATCH_NORM_STATISTICS)})
