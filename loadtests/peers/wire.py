"""How each server wants its picture and how it answers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from loadtests.asks import HTTP_OUTCOMES, Answer, Ask

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """One way to put a request and to read its answer."""

    path: Callable[[Ask], str]
    headers: Callable[[bytes], dict[str, str]]
    body: Callable[[bytes], bytes]
    document: Callable[[bytes], Document]
    """The answer that every server gives in its own wrapping."""

    def write(self, host: str, image: bytes, ask: Ask) -> bytes:
        """The bytes of one request."""
        body = self.body(image)
        headers = self.headers(image) | {"Host": host, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path(ask)} HTTP/1.1\r\n{head}\r\n".encode() + body

    def read(self, status: int, body: bytes) -> Answer:
        """How a request ended."""
        if status != HTTPStatus.OK:
            return Answer(HTTP_OUTCOMES.get(status, "error"))
        document = self.document(body)
        return Answer("on_time" if document["on_time"] else "late", document["arm"])


def _image_type(image: bytes) -> dict[str, str]:
    del image
    return {"Content-Type": "image/jpeg"}


def _as_it_is(image: bytes) -> bytes:
    return image


OURS = Wire(lambda ask: f"/classify{ask.query()}", _image_type, _as_it_is, json.loads)
RAW = Wire(lambda _: "/classify", _image_type, _as_it_is, json.loads)
"""Servers that know no budget."""


def _triton_head(image: bytes) -> bytes:
    sent = {
        "name": "IMAGE",
        "shape": [len(image)],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": len(image)},
    }
    wanted = {"name": "REPLY", "parameters": {"binary_data": True}}
    return json.dumps({"inputs": [sent], "outputs": [wanted]}).encode()


def _triton_headers(image: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(_triton_head(image))),
    }


def _triton_document(body: bytes) -> Document:
    """A JSON head and, right behind it, the bytes of the one output."""
    text = body.decode()
    _, end = json.JSONDecoder().raw_decode(text)
    document: Document = json.loads(text[end:])
    return document


TRITON = Wire(
    lambda _: "/v2/models/classify/infer",
    _triton_headers,
    lambda image: _triton_head(image) + image,
    _triton_document,
)
"""The Open Inference Protocol with its binary extension."""
