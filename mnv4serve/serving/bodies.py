"""The body of an HTTP request, read within its limits, and the picture inside it."""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from mnv4serve.errors import BadImage, BadParameter, Cancelled, SlowBody, TooLarge, UnsupportedMedia

if TYPE_CHECKING:  # exists for type checkers only
    from python_multipart.multipart import MultipartCallbacks

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

RAW_TYPES = frozenset(
    {
        b"",
        b"application/octet-stream",
        b"application/x-www-form-urlencoded",  # what `curl --data-binary` says when told nothing
    }
)
FIELD = "image"
MAX_PARTS = 32


async def read_body(
    receive: Receive, *, declared: bytes | None, limit_bytes: int, timeout_s: float
) -> bytes:
    """The whole body; raises TooLarge, SlowBody, or Cancelled where the caller leaves."""
    if declared is not None and (not declared.isdigit() or int(declared[:18]) > limit_bytes):
        raise too_large(limit_bytes)
    chunks: list[bytes] = []
    room_bytes = limit_bytes
    try:
        async with asyncio.timeout(timeout_s):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Cancelled("the connection was closed before the body was complete")
                chunks.append(message.get("body", b""))
                room_bytes -= len(chunks[-1])
                if room_bytes < 0:
                    raise too_large(limit_bytes)
                more = message.get("more_body", False)
    except TimeoutError:
        raise SlowBody(f"the body did not arrive within {timeout_s:g} s") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the request is larger than {limit_bytes} bytes, the configured limit")


def media_type(content_type: bytes) -> bytes:
    """The type without its parameters; raises UnsupportedMedia where a body of it is not read."""
    media = content_type.partition(b";")[0].strip().lower()
    if media.startswith(b"image/") or media in RAW_TYPES or media in _READERS:
        return media
    raise UnsupportedMedia(
        f"content type {media[:60].decode('latin-1')!r} is not read: send the picture itself as "
        f"image/* or application/octet-stream, a multipart field `{FIELD}`, or JSON"
    )


def picture_in(body: bytes, *, media: bytes, content_type: bytes) -> bytes:
    """The encoded picture inside a body; raises BadImage where there is none."""
    reader = _READERS.get(media)
    image = body if reader is None else reader(body, content_type)
    if not image:
        raise BadImage("the request holds no picture: send one as the body")
    return image


def _from_json(body: bytes, _content_type: bytes) -> bytes:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadParameter("the body is not valid JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get(FIELD), str):
        raise BadParameter('the JSON body must be {"image": "<base64>"}')
    if len(document) > 1:
        raise BadParameter("the JSON body may hold `image` only: parameters go into the query")
    try:
        return base64.b64decode(document[FIELD], validate=True)
    except (binascii.Error, ValueError):
        raise BadImage("`image` is not valid base64") from None


class _Parts:
    """Collects the named fields of a multipart body."""

    def __init__(self) -> None:
        self.images: list[bytes] = []
        self._name = b""
        self._header = b""
        self._value = b""
        self._content: list[bytes] = []
        self._n_parts = 0

    def on_part_begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > MAX_PARTS:
            raise FormParserError("too many parts")
        self._name, self._content = b"", []

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._name = parse_options_header(self._value)[1].get(b"name", b"")
        self._header = self._value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def on_part_end(self) -> None:
        if self._name == FIELD.encode():
            self.images.append(b"".join(self._content))


def _from_multipart(body: bytes, content_type: bytes) -> bytes:
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise BadParameter("the multipart content type names no boundary")
    parts = _Parts()
    callbacks: MultipartCallbacks = {
        "on_part_begin": parts.on_part_begin,
        "on_part_data": parts.on_part_data,
        "on_part_end": parts.on_part_end,
        "on_header_field": parts.on_header_field,
        "on_header_value": parts.on_header_value,
        "on_header_end": parts.on_header_end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise BadParameter("the multipart body cannot be read") from None
    if len(parts.images) != 1:
        raise BadParameter(f"the multipart body must hold the field `{FIELD}` once")
    return parts.images[0]


_READERS = {b"application/json": _from_json, b"multipart/form-data": _from_multipart}
