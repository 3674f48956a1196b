"""The local engine: HTTP and gRPC in one process on one event loop, drained on SIGTERM."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import grpc
import uvicorn
import uvloop
from typing_extensions import override

from mnv4serve.config import ServiceConfig, TlsConfig
from mnv4serve.errors import AddressTaken, BadConfig
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.grpc_api import make_server
from mnv4serve.serving.http_api import make_app
from mnv4serve.serving.http_protocol import WholeBodyProtocol
from mnv4serve.serving.site import Assembled

logger = logging.getLogger(__name__)

BACKLOG = 1024
ASSEMBLING = "assemble"
"""Name of the thread that brings the pools up beside the open ports."""
Assemble = Callable[[], Assembled]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the two transports listen, with the ports that were really bound."""

    host: str
    http_port: int
    grpc_port: int


class _Http(uvicorn.Server):
    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # the engine drains first, so signals are its own
        yield


def run(gateway: Gateway, *, assemble: Assemble, announce: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    `assemble` runs beside the open ports, which answer that the service is not ready yet;
    `announce` is called once it is. Raises AddressTaken where a port cannot be had.
    """
    uvloop.run(_serve(gateway, assemble=assemble, announce=announce))


def check_addresses(config: ServiceConfig) -> None:
    """Raises AddressTaken where a port cannot be had, to be asked before minutes of building."""
    for port, flag in ((config.port, "--port"), (config.grpc_port, "--grpc-port")):
        with _bound(config.host, port, flag):
            pass


async def _serve(
    gateway: Gateway, *, assemble: Assemble, announce: Callable[[Addresses], None]
) -> None:
    config = gateway.config
    if config.tls is not None:
        _check_tls(config.tls)
    with _bound(config.host, config.port, "--port") as listener:
        http = _http_server(gateway)
        grpc_server = make_server(gateway)
        grpc_port = _add_port(grpc_server, config)
        await grpc_server.start()
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        addresses = Addresses(config.host, listener.getsockname()[1], grpc_port)
        stop = _stop_event()
        try:
            if await _finishes_first(_in_daemon_thread(assemble), stop, gateway):
                announce(addresses)
                await stop.wait()
            await _drain(gateway, http, grpc_server, serving)
        finally:
            gateway.close()
            http.should_exit = True
            await asyncio.gather(serving, grpc_server.stop(0), return_exceptions=True)


def _in_daemon_thread(assemble: Assemble) -> asyncio.Future[Assembled]:
    """Not on the loop's executor, which is waited for at the end: measuring takes its time."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Assembled] = loop.create_future()

    def settle(outcome: Assembled | Exception) -> None:
        if done.cancelled():
            return
        if isinstance(outcome, Assembled):
            done.set_result(outcome)
        else:
            done.set_exception(outcome)

    def work() -> None:
        try:
            outcome: Assembled | Exception = assemble()
        except Exception as error:  # noqa: BLE001  # raised where it is awaited
            outcome = error
        with contextlib.suppress(RuntimeError):  # stopped meanwhile: the loop is closed
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=work, name=ASSEMBLING, daemon=True).start()
    return done


async def _finishes_first(
    assembling: Awaitable[Assembled], stop: asyncio.Event, gateway: Gateway
) -> bool:
    """Whether the pools were there before somebody asked to stop."""
    task = asyncio.ensure_future(assembling)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        return False
    gateway.open(task.result())
    return True


async def _drain(
    gateway: Gateway,
    http: uvicorn.Server,
    grpc_server: grpc.aio.Server,
    serving: asyncio.Task[None],
) -> None:
    config = gateway.config
    gateway.drain()
    logger.info("draining", extra={"delay_s": config.drain_delay_s})
    if gateway.state == "draining":
        await asyncio.sleep(config.drain_delay_s)
    gateway.refuse_new()
    http.should_exit = True
    await asyncio.gather(serving, grpc_server.stop(config.drain_timeout_s))
    logger.info("drained")


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    return stop


def _http_server(gateway: Gateway) -> uvicorn.Server:
    config = gateway.config
    tls = config.tls
    return _Http(
        uvicorn.Config(
            make_app(gateway),
            loop="none",
            http=WholeBodyProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            proxy_headers=False,
            timeout_graceful_shutdown=int(config.drain_timeout_s) or 1,
            ssl_certfile=None if tls is None else tls.certificate,
            ssl_keyfile=None if tls is None else tls.key,
        )
    )


@contextlib.contextmanager
def _bound(host: str, port: int, flag: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise AddressTaken(_why_not(error, host, port, flag)) from error
        listener.listen(BACKLOG)
        yield listener


def _add_port(server: grpc.aio.Server, config: ServiceConfig) -> int:
    address = f"{url_host(config.host)}:{config.grpc_port}"
    with _bound(config.host, config.grpc_port, "--grpc-port"):
        pass  # grpc logs the reason and raises without it
    try:
        if config.tls is None:
            return int(server.add_insecure_port(address))
        pair = (config.tls.key.read_bytes(), config.tls.certificate.read_bytes())
        return int(server.add_secure_port(address, grpc.ssl_server_credentials([pair])))
    except RuntimeError as error:
        raise AddressTaken(f"cannot listen on {address}: {error}") from error


def url_host(host: str) -> str:
    """A host as it stands before a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _check_tls(tls: TlsConfig) -> None:
    """Raises BadConfig where the pair cannot be used, before anything listens."""
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl's errors are OSErrors
        raise BadConfig(f"tls: {tls.certificate} with {tls.key} cannot be used: {error}") from error


def _why_not(error: OSError, host: str, port: int, flag: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            what_to_do = f"it is in use, choose another port with {flag}"
        case errno.EACCES:
            what_to_do = f"low ports are not everybody's, choose another port with {flag}"
        case _:
            what_to_do = f"{error.strerror}, name an address of this machine with --host"
    return f"cannot listen on {url_host(host)}:{port}: {what_to_do}"
