"""Real servers around a gateway, on ports that the system picks, in the test's event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import SplitResult, urlsplit

import uvicorn
from uvicorn.server import ServerState

from mnv4serve.domain import Transport
from mnv4serve.serving.grpc_api import make_server
from mnv4serve.serving.http_api import make_app
from mnv4serve.serving.http_protocol import WholeBodyProtocol
from mnv4serve.serving.wire import GatewayLike


@asynccontextmanager
async def serving(transport: Transport, gateway: GatewayLike) -> AsyncIterator[str]:
    """The address under which a gateway is served meanwhile."""
    serve = serving_http if transport is Transport.HTTP else serving_grpc
    async with serve(gateway) as address:
        yield address


@asynccontextmanager
async def serving_http(gateway: GatewayLike) -> AsyncIterator[str]:
    config = uvicorn.Config(make_app(gateway), lifespan="off", ws="none", log_config=None)
    config.load()
    state = ServerState()

    def connection() -> asyncio.Protocol:
        return WholeBodyProtocol(config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for open_connection in list(state.connections):
            open_connection.shutdown()
        await asyncio.gather(*state.tasks, return_exceptions=True)


@asynccontextmanager
async def serving_grpc(gateway: GatewayLike) -> AsyncIterator[str]:
    server = make_server(gateway)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(0)


@dataclass
class Cable:
    """A way to an address that can be cut, and is whole again for whoever connects anew."""

    address: str
    """Of the near end."""
    _ends: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """Break all connections, whatever is under way on them."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def join(
        self, far: SplitResult, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection there and back until it ends."""
        far_reader, far_writer = await asyncio.open_connection(far.hostname, far.port)
        self._ends += [writer, far_writer]
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def cabled(address: str) -> AsyncIterator[Cable]:
    """A cable to a served address."""
    far = urlsplit(address)
    cable = Cable("")
    server = await asyncio.start_server(partial(cable.join, far), "127.0.0.1", 0)
    cable.address = f"{far.scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cable
    finally:
        server.close()
        cable.cut()
