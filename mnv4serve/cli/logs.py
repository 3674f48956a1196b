"""Logs: one line an event on stderr, with fields; requests are counted, not logged."""

import logging
import sys

from typing_extensions import override

WARN_OF_CALLERS = ("uvicorn.error", "python_multipart")
"""Libraries with a warning for each unreadable request, which the caller is told anyway."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldsFormatter(logging.Formatter):
    """Time, level, event and the fields that came with it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        pairs = "".join(f" {k}={v!r}" for k, v in fields.items() if not k.startswith("_"))
        return super().formatMessage(record) + pairs


def set_up_logs(*, debug: bool) -> None:
    """Our events from info on, what libraries say only from warnings on; all with `debug`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter())
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    logging.getLogger("mnv4serve").setLevel(logging.DEBUG if debug else logging.INFO)
    for name in WARN_OF_CALLERS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.ERROR)
