"""What a caller asks for, checked: query strings, headers and message fields become Terms."""

import re
from functools import lru_cache
from urllib.parse import parse_qsl

from mnv4serve.domain import BackendName, OnMiss, Terms
from mnv4serve.errors import BadParameter

PARAMETERS = ("budget_ms", "top_k", "min_accuracy", "variant", "backend", "on_miss")
DEFAULT_TOP_K = 5
MAX_BUDGET_MS = 600_000.0
MAX_VARIANT_LENGTH = 200
MAX_QUERY_BYTES = 4096
REMEMBERED = 100
"""Of the last queries that could be read; callers repeat theirs."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)


@lru_cache(REMEMBERED)
def terms_from_query(
    query: bytes, *, budget_headers: tuple[bytes, ...], default_budget_ms: float, n_labels: int
) -> Terms:
    """Raises BadParameter on anything unknown, repeated, unreadable or out of range.

    A name that is empty was not given, as in a message; a number that is empty is a mistake.
    """
    given = _fields(query) if query else {}
    budget_ms = _budget_ms(_written(given, "budget_ms"), budget_headers)
    top_k = _written(given, "top_k")
    floor = _written(given, "min_accuracy")
    backend, on_miss = given.get("backend"), given.get("on_miss")
    return Terms(
        budget_ms=default_budget_ms if budget_ms is None else budget_ms,
        top_k=checked_top_k(None if top_k is None else _integer("top_k", top_k), n_labels),
        min_accuracy=None if floor is None else checked_floor(_number("min_accuracy", floor)),
        variant=checked_variant(given.get("variant")),
        backend=checked_backend(backend) if backend else None,
        on_miss=_on_miss(on_miss) if on_miss else OnMiss.DEGRADE,
    )


def checked_budget(budget_ms: float) -> float:
    """The budget, refused unless positive and at most ten minutes."""
    if 0.0 < budget_ms <= MAX_BUDGET_MS:
        return budget_ms
    raise BadParameter(f"budget_ms must be above 0 and at most {MAX_BUDGET_MS:.0f}")


def checked_top_k(top_k: int | None, n_labels: int) -> int:
    """How many labels to return; the usual five, or all where there are fewer, when None.

    While nothing is loaded there are none to compare with.
    """
    if top_k is None:
        return min(DEFAULT_TOP_K, n_labels)
    if 1 <= top_k <= (n_labels or top_k):
        return top_k
    raise BadParameter(f"top_k must lie between 1 and {n_labels}, the number of labels")


def checked_floor(min_accuracy: float) -> float:
    if 0.0 <= min_accuracy <= 1.0:
        return min_accuracy
    raise BadParameter("min_accuracy must lie in [0, 1]; 0.8 asks for 80 %")


def checked_variant(variant: str | None) -> str | None:
    """A variant's name, None where it is empty; whether there is one, the router knows."""
    if variant and len(variant) > MAX_VARIANT_LENGTH:
        raise BadParameter(f"variant is longer than {MAX_VARIANT_LENGTH} characters, as no name is")
    return variant or None


def checked_backend(name: str) -> BackendName:
    try:
        return BackendName(name)
    except ValueError:
        known = ", ".join(BackendName)
        raise BadParameter(f"unknown backend {name[:40]!r}; there are {known}") from None


def _on_miss(name: str) -> OnMiss:
    try:
        return OnMiss(name)
    except ValueError:
        known = " or ".join(OnMiss)
        raise BadParameter(f"on_miss must be {known}, not {name[:40]!r}") from None


def _written(given: dict[str, str], name: str) -> str | None:
    """A number as it was written, which has to be more than nothing."""
    text = given.get(name)
    if text == "":
        raise BadParameter(f"{name} is empty: give it a value or leave it out")
    return text


def _fields(query: bytes) -> dict[str, str]:
    if len(query) > MAX_QUERY_BYTES:
        raise BadParameter(f"the query is longer than {MAX_QUERY_BYTES} bytes")
    given: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in PARAMETERS:
            raise BadParameter(
                f"unknown parameter {name[:40]!r}; there are {', '.join(PARAMETERS)}"
            )
        if name in given:
            raise BadParameter(f"{name} is given twice")
        given[name] = value
    return given


def _budget_ms(in_query: str | None, in_headers: tuple[bytes, ...]) -> float | None:
    texts = [value.decode("latin-1").strip() for value in in_headers]
    if in_query is not None:
        texts.append(in_query)
    budgets = {checked_budget(_number("budget_ms", text)) for text in texts}
    if len(budgets) > 1:
        raise BadParameter("budget_ms and X-Budget-Ms give different budgets: give one")
    return budgets.pop() if budgets else None


def _number(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise BadParameter(f"{name} must be a number, not {text[:40]!r}")
    return float(text)


def _integer(name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise BadParameter(f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)
