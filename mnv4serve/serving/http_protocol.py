"""How bodies and responses pass uvicorn: declared bodies of photo size whole, answers at once."""

from asyncio import Transport
from typing import Any, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WHOLE_BODY_BYTES = 1 << 20
"""uvicorn wakes the application for every piece and stops reading at 64 kB; a photo has more."""
INFORMATIONAL = b"HTTP/1.1 1"
"""How an interim response such as `100 Continue` begins."""


class JoiningTransport:
    """A transport that writes the head of a response together with what follows it.

    Two writes are two system calls, and on the other side two wake-ups.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        """Keep the head of the answer for what follows; write all else at once."""
        if self._head == b"":
            if data.startswith(INFORMATIONAL):  # the caller waits for it to send its body
                self._transport.write(data)
            else:
                self._head = data
            return
        self._transport.write(self._head + data if self._head else data)
        self._head = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # all else is the transport's
        return getattr(self._transport, name)


class WholeBodyProtocol(HttpToolsProtocol):
    """uvicorn's protocol with one wake-up per body and one write per answer.

    Bodies that are larger or that do not say their length come in pieces.
    """

    declared = False
    """Whether the request says how long its body is, so that the application could refuse it."""

    @override
    def on_headers_complete(self) -> None:
        self.declared = any(name == b"content-length" for name, _ in self.headers)
        super().on_headers_complete()
        if self.parser.get_method() != b"HEAD":  # which has nothing after the head
            self.cycle.transport = cast("Transport", JoiningTransport(self.cycle.transport))

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
