"""Plain Starlette on uvicorn, the work inline, a process a worker."""

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtests.peers.work import HOST, asked, open_work


def application() -> Starlette:
    """Made in each worker process."""
    work = open_work()

    async def classify(request: Request) -> Response:
        return JSONResponse(work(await request.body()))

    return Starlette(routes=[Route("/classify", classify, methods=["POST"])])


def main() -> None:
    given = asked()
    name = f"{__spec__.name}:application"
    uvicorn.run(
        name, factory=True, host=HOST, port=given.port, workers=given.workers, log_level="warning"
    )


if __name__ == "__main__":
    main()
