"""Real servers around a gateway, on ports that the system picks, in the test's event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
