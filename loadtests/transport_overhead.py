"""What the transports cost by themselves: a gateway that answers at once, beside plain servers.

One client sends a 107 kB body over one connection and waits for each answer. The servers take
turns, so that a busy machine disturbs them alike.

    python -m loadtests.transport_overhead --rounds 20 --requests 200
"""

import multiprocessing
import socket
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from loadtests.flags import command_line, count
from mnv4serve.serving.grpc_api import make_server
from mnv4serve.serving.http_api import make_app
from mnv4serve.v1 import classifier_pb2 as pb
from tests.fakes import FakeGateway

PHOTO = bytes(107_000)
CLASSIFY = "/mnv4serve.v1.Classifier/Classify"

Serve = Callable[[Connection], Coroutine[Any, Any, None]]
Ask = Callable[[], None]


def instant_gateway() -> FakeGateway:
    """Answers at once and forgets at once."""
    return FakeGateway(
        calls=deque(maxlen=1),  # type: ignore[arg-type]  # all it does is append
        replies=deque(maxlen=1),  # type: ignore[arg-type]
    )


async def plain(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse({"n_bytes": len(body), "budget_ms": request.query_params["budget_ms"]})


async def serve_starlette(ready: Connection) -> None:
    await serve_asgi(Starlette(routes=[Route("/classify", plain, methods=["POST"])]), ready)


async def serve_http(ready: Connection) -> None:
    await serve_asgi(make_app(instant_gateway()), ready)


async def serve_asgi(app: object, ready: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready.send(listener.getsockname()[1])
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]  # two spellings of ASGI
            http="httptools",
            ws="none",
            lifespan="off",
            timeout_keep_alive=600,  # while the others have their turn
            access_log=False,
            log_level="error",
            server_header=False,
            date_header=False,
        )
        await uvicorn.Server(config).serve(sockets=[listener])


async def serve_plain_grpc(ready: Connection) -> None:
    async def answer(_request: bytes, _context: object) -> bytes:
        return bytes(300)

    server = grpc.aio.server()
    handlers = {"Classify": grpc.unary_unary_rpc_method_handler(answer)}
    service = CLASSIFY.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    await serve_rpc(server, ready)


async def serve_grpc(ready: Connection) -> None:
    await serve_rpc(make_server(instant_gateway()), ready)


async def serve_rpc(server: grpc.aio.Server, ready: Connection) -> None:
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ready.send(port)
    await server.wait_for_termination()


SERVERS: dict[str, tuple[Serve, str]] = {
    "plain Starlette": (serve_starlette, "http"),
    "mnv4serve HTTP": (serve_http, "http"),
    "plain grpc.aio": (serve_plain_grpc, "grpc"),
    "mnv4serve gRPC": (serve_grpc, "grpc"),
}


def run_server(name: str, ready: Connection) -> None:
    serve, _ = SERVERS[name]
    uvloop.run(serve(ready))


def http_client(port: int) -> Ask:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = (
        "POST /classify?budget_ms=50 HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
    )
    message = head.encode() + PHOTO

    def ask() -> None:
        connection.sendall(message)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536)

    return ask


def grpc_client(port: int) -> Ask:
    call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary(CLASSIFY)
    message = pb.ClassifyRequest(image=PHOTO, budget_ms=50).SerializeToString()

    def ask() -> None:
        call(message)

    return ask


def timed_ms(ask: Ask, n: int) -> list[float]:
    latencies = []
    for _ in range(n):
        started = time.perf_counter()
        ask()
        latencies.append((time.perf_counter() - started) * 1000.0)
    return latencies


def main() -> None:
    parser = command_line("loadtests.transport_overhead", __doc__)
    parser.add_argument("--rounds", type=count, default=20, help="default %(default)s")
    parser.add_argument(
        "--requests",
        type=count,
        default=200,
        help="of each server in each round; default %(default)s",
    )
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    clients: dict[str, Ask] = {}
    processes = []
    for name, (_, protocol) in SERVERS.items():
        here, there = context.Pipe()
        process = context.Process(target=run_server, args=(name, there), daemon=True)
        process.start()
        processes.append(process)
        with closing(here):
            port = here.recv()
        clients[name] = http_client(port) if protocol == "http" else grpc_client(port)
        timed_ms(clients[name], 100)
    medians: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(arguments.rounds):
        for name, ask in clients.items():
            medians[name].append(statistics.median(timed_ms(ask, arguments.requests)))
    for name, rounds in medians.items():
        p50, best = statistics.median(rounds), min(rounds)
        sys.stdout.write(f"{name:16s} p50 {p50:.3f} ms  best round {best:.3f} ms\n")
    for process in processes:
        process.terminate()


if __name__ == "__main__":
    main()
