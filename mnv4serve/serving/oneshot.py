"""A few answers without a server: the same gateway, opened for the length of one call."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from functools import partial

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Call, Reply, Terms, Transport
from mnv4serve.errors import NoSuchArm
from mnv4serve.host import Host
from mnv4serve.metrics import Metrics
from mnv4serve.profiler import Progress
from mnv4serve.router.eligible import allows
from mnv4serve.serving.assemble import assemble
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.slot import now_ms


def answer_all(
    host: Host,
    config: ServiceConfig,
    images: Sequence[bytes],
    *,
    terms: Terms,
    progress: Progress | None = None,
) -> list[Reply]:
    """Classify pictures one after another; raises ServeError as the service would."""
    _check_variant(host, terms.variant)
    return asyncio.run(_answer_all(host, config, images, terms=terms, progress=progress))


def _check_variant(host: Host, name: str | None) -> None:
    """Before this machine is measured and the others are loaded."""
    names = [variant.name for variant in host.zoo.variants]
    if name is not None and name not in names:
        raise NoSuchArm(f"{host.zoo_name} has no variant {name}; there are {', '.join(names)}")


async def _answer_all(
    host: Host,
    config: ServiceConfig,
    images: Sequence[bytes],
    *,
    terms: Terms,
    progress: Progress | None,
) -> list[Reply]:
    metrics = Metrics()
    gateway = Gateway(
        config=config,
        zoo_name=host.zoo_name,
        labels=[label.name for label in host.zoo.labels],
        observe=metrics.observe,
        metrics_text=metrics.text,
    )
    with closing(gateway):
        only = partial(allows, terms) if terms.variant or terms.backend else None
        gateway.open(assemble(host, config, metrics=metrics, progress=progress, only=only))
        return [
            await gateway.classify(
                Call(image, terms, Transport.LOCAL, f"picture-{number}", now_ms())
            )
            for number, image in enumerate(images, start=1)
        ]
