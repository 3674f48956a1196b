"""How requests pass uvicorn: heads within limits, bodies of photo size whole, answers at once."""

from asyncio import BaseTransport, TimerHandle, Transport
from typing import Any, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mnv4serve.serving.gone import WATCHING, Watching

WHOLE_BODY_BYTES = 1 << 20
"""uvicorn wakes the application for every piece and stops reading at 64 kB; a photo has more."""
INFORMATIONAL = b"HTTP/1.1 1"
"""How an interim response such as `100 Continue` begins."""
MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 10.0
"""For a whole head, from the connection or from the head's first byte; httptools waits for ever."""


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

    Bodies that are larger or that do not say their length come in pieces. A connection that sends
    an endless head, a slow one or none at all is closed.
    """

    declared = False
    """Whether the request says how long its body is, so that the application could refuse it."""
    in_head = True
    head_bytes = 0
    """Read so far of a head that did not arrive in one piece."""
    deadline: TimerHandle | None = None

    @override
    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast("Transport", transport))
        self.watching: Watching = set()
        self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)
        for told in tuple(self.watching):
            told()

    @override
    def data_received(self, data: bytes) -> None:
        began_before = self.in_head
        super().data_received(data)
        if not self.in_head or self.transport.is_closing():
            return
        if began_before:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")
        if self.deadline is None:
            self._await_head()

    def _await_head(self) -> None:
        self.deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _head_is_here(self) -> None:
        self.in_head = False
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _give_up(self) -> None:
        if self.head_bytes:
            self._refuse(b"408 Request Timeout")
        else:  # a connection that somebody opened in advance: nobody waits for an answer
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        """End the connection; what is half a request has no id and is nobody's to count."""
        answer = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(answer % status)
        self.transport.close()

    @override
    def on_message_begin(self) -> None:
        self.in_head, self.head_bytes = True, 0
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        self._head_is_here()
        self.declared = any(name == b"content-length" for name, _ in self.headers)
        cast("dict[str, Any]", self.scope)[WATCHING] = self.watching
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
