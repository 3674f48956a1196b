"""How a request body reaches the application: whole, where it is declared and of photo size."""

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WHOLE_BODY_BYTES = 1 << 20
"""uvicorn wakes the application for every piece and stops reading at 64 kB; a photo has more."""


class WholeBodyProtocol(HttpToolsProtocol):
    """uvicorn's protocol with one wake-up per body; larger and undeclared ones come in pieces."""

    declared = False
    """Whether the request says how long its body is, so that the application could refuse it."""

    @override
    def on_headers_complete(self) -> None:
        self.declared = any(name == b"content-length" for name, _ in self.headers)
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if (
            not self.declared
            or cycle.response_complete
            or len(cycle.body) + len(body) > WHOLE_BODY_BYTES
        ):
            super().on_body(body)
            return
        cycle.body += body
