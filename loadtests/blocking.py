"""Clients that send one request and wait: the cheapest there are, for latency one at a time."""

import json
import socket
from http import HTTPStatus
from typing import NamedTuple, Protocol, Self

import grpc

from loadtests.asks import GRPC_OUTCOMES, HTTP_OUTCOMES, Answer, Ask
from mnv4serve.v1 import classifier_pb2, classifier_pb2_grpc

TIMEOUT_S = 30.0
ON_MISS = {
    None: classifier_pb2.ON_MISS_UNSPECIFIED,
    "degrade": classifier_pb2.ON_MISS_DEGRADE,
    "refuse": classifier_pb2.ON_MISS_REFUSE,
}
CHANNEL_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


class Head(NamedTuple):
    """The head of a response."""

    status: int
    length: int
    last: bool
    """Whether the server closes the connection after it."""


class Client(Protocol):
    """One connection of one caller."""

    def classify(self, image: bytes, ask: Ask) -> Answer: ...
    def close(self) -> None: ...


class HttpClient:
    """HTTP/1.1 over one kept socket, without a library's cost."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._socket = socket.create_connection((host, port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def classify(self, image: bytes, ask: Ask) -> Answer:
        return http_answer(*self.exchange(http_request(self._host, image, ask)))

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a whole request."""
        self._socket.sendall(request)
        received = self._receive()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        head = read_head(received[:end])
        body = received[end + 4 :]
        while len(body) < head.length:
            body += self._receive()
        return head.status, body

    def _receive(self) -> bytes:
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("the server closed the connection")
        return received

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GrpcClient:
    """The generated stub over one channel."""

    def __init__(self, host: str, port: int) -> None:
        self._channel = grpc.insecure_channel(f"{host}:{port}", options=CHANNEL_OPTIONS)
        stub = classifier_pb2_grpc.ClassifierStub
        self._stub = stub(self._channel)  # type: ignore[no-untyped-call]

    def classify(self, image: bytes, ask: Ask) -> Answer:
        try:
            reply = self._stub.Classify(grpc_request(image, ask), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return Answer(GRPC_OUTCOMES.get(error.code().name, "error"))
        return grpc_answer(reply)

    def close(self) -> None:
        self._channel.close()


def http_request(host: str, image: bytes, ask: Ask) -> bytes:
    """The bytes of one request."""
    head = (
        f"POST /classify{ask.query()} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
    )
    return head.encode() + image


def read_head(raw: bytes) -> Head:
    """What a client needs of a response's head."""
    lines = raw.lower().split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    return Head(
        status=int(raw[9:12]),
        length=int(fields[b"content-length"]),
        last=fields.get(b"connection") == b"close",
    )


def http_answer(status: int, body: bytes) -> Answer:
    if status != HTTPStatus.OK:
        return Answer(HTTP_OUTCOMES.get(status, "error"))
    document = json.loads(body)
    return Answer("on_time" if document["on_time"] else "late", document["arm"])


def grpc_request(image: bytes, ask: Ask) -> classifier_pb2.ClassifyRequest:
    return classifier_pb2.ClassifyRequest(
        image=image,
        budget_ms=ask.budget_ms,
        on_miss=ON_MISS[ask.on_miss],
        variant=ask.variant or "",
        backend=ask.backend or "",
    )


def grpc_answer(reply: classifier_pb2.ClassifyReply) -> Answer:
    return Answer("on_time" if reply.on_time else "late", reply.arm.id)
