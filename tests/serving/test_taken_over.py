"""An accuracy that nobody measured on the artifact is marked wherever it is told."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from mnv4serve.cli.tables import arms_table
from mnv4serve.client import values
from mnv4serve.client.messages import frontier_from_message
from mnv4serve.domain import ArmView
from mnv4serve.serving.documents import frontier_document
from mnv4serve.serving.frontier import LiveView
from mnv4serve.serving.messages import frontier_message
from tests.fakes import ARM, LIVE, VIEWS

TAKEN_OVER = replace(ARM, accuracy_taken_over=True)


def views(*, taken_over: bool) -> tuple[ArmView, ...]:
    return (replace(VIEWS[0], arm=TAKEN_OVER if taken_over else ARM),)


def over_http(live: LiveView) -> values.Frontier:
    return values.frontier_from_json(frontier_document("imagenet1k", live))


def over_grpc(live: LiveView) -> values.Frontier:
    return frontier_from_message(frontier_message("imagenet1k", live))


@pytest.mark.parametrize("transport", [over_http, over_grpc])
@pytest.mark.parametrize("taken_over", [True, False])
def test_clients_are_told(
    transport: Callable[[LiveView], values.Frontier], *, taken_over: bool
) -> None:
    """The mark survives both transports, and a measured figure carries none."""
    frontier = transport(replace(LIVE, arms=views(taken_over=taken_over)))

    (view,) = frontier.arms
    assert view.arm.accuracy == ARM.accuracy
    assert view.arm.accuracy_taken_over is taken_over


@pytest.mark.parametrize("taken_over", [True, False])
def test_the_table_says_so(*, taken_over: bool) -> None:
    """People see the word beside the figure."""
    console = Console(file=StringIO(), width=120)

    console.print(arms_table(views(taken_over=taken_over)))

    assert isinstance(console.file, StringIO)
    assert ("taken over" in console.file.getvalue()) is taken_over
