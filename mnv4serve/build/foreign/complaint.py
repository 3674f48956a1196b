"""What a runtime says against a file, as one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnv4serve.errors import CatalogError

LONGEST = 300


def trying(path: Path, what: str, act: Callable[[], Any]) -> Any:  # noqa: ANN401
    """What `act` gives; raises CatalogError where a runtime raises anything."""
    try:
        return act()
    except Exception as error:  # the runtimes' exceptions share no other base
        raise CatalogError(f"{path}: {what} ({short(error)})") from error


def short(error: BaseException) -> str:
    """The first words of a runtime's complaint, on one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."
