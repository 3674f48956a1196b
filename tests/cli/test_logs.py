"""Events keep their fields on one line."""

import logging

from mnv4serve.cli.logs import FieldsFormatter


def test_an_event_is_one_line_with_its_fields() -> None:
    """What was passed as `extra` follows the event as key=value."""
    record = logging.makeLogRecord(
        {"name": "mnv4serve", "levelname": "WARNING", "msg": "request_failed", "request_id": "a b"}
    )

    line = FieldsFormatter().format(record)

    assert line.endswith("WARNING mnv4serve request_failed request_id='a b'")
    assert "\n" not in line
