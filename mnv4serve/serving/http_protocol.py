"""How a request body reaches the application: whole, where it is of a photo's size."""

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WHOLE_BODY_BYTES = 1 << 20
"""uvicorn wakes the application for every piece and stops reading at 64 kB; a photo has more."""


class WholeBodyProtocol(HttpToolsProtocol):
    """uvicorn's protocol with one wake-up per body; larger bodies come in pieces as before."""

    @override
    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.response_complete or len(cycle.body) + len(body) > WHOLE_BODY_BYTES:
            super().on_body(body)
            return
        cycle.body += body
