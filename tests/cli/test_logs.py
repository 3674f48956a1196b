"""Events keep their fields on one line."""

import logging
from collections.abc import Iterator

import pytest

from mnv4serve.cli.logs import WARN_OF_CALLERS, FieldsFormatter, set_up_logs


@pytest.fixture
def levels() -> Iterator[None]:
    """Puts the levels back that a test changes."""
    loggers = [logging.getLogger(name) for name in ("mnv4serve", *WARN_OF_CALLERS)]
    before = [one.level for one in loggers]
    yield
    for one, level in zip(loggers, before, strict=True):
        one.setLevel(level)


def test_an_event_is_one_line_with_its_fields() -> None:
    """What was passed as `extra` follows the event as key=value."""
    record = logging.makeLogRecord(
        {"name": "mnv4serve", "levelname": "WARNING", "msg": "request_failed", "request_id": "a b"}
        | {"_added_by_a_library": 1}
    )

    line = FieldsFormatter().format(record)

    assert line.endswith("WARNING mnv4serve request_failed request_id='a b'")
    assert "\n" not in line


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize("name", ["uvicorn.error", "python_multipart.multipart"])
def test_a_callers_mistake_is_no_warning_of_ours(name: str) -> None:
    """Anybody could fill the log with unreadable requests; defects still come through."""
    set_up_logs(debug=False)

    assert not logging.getLogger(name).isEnabledFor(logging.WARNING)
    assert logging.getLogger(name).isEnabledFor(logging.ERROR)
