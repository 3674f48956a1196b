"""The server that anyone would write first: Starlette on uvicorn, the work inline, one process.

It does the same decode + inference on the same artifact, so that the difference to it is the
cost and the gain of mnv4serve's own code.

    python -m loadtests.plain --port 8001 --arm conv_small@160/cpu/int8/cpu
"""

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtests.bare import Bare, open_bare
from loadtests.flags import command_line, count


def application(bare: Bare, arm_id: str) -> Starlette:
    """One route that classifies; it answers with the fields that every client reads."""

    async def classify(request: Request) -> Response:
        predictions = bare.classify(await request.body())
        found = [
            {"label": p.label, "index": p.index, "probability": p.probability} for p in predictions
        ]
        return JSONResponse({"predictions": found, "arm": arm_id, "on_time": True})

    async def healthz(_: Request) -> Response:
        return Response()

    return Starlette(
        routes=[Route("/classify", classify, methods=["POST"]), Route("/healthz", healthz)]
    )


def main() -> None:
    flags = command_line("loadtests.plain", __doc__)
    flags.add_argument("--port", type=int, required=True, help="to listen on, this machine only")
    flags.add_argument("--arm", required=True, help="variant/backend/precision/device")
    flags.add_argument(
        "--threads", type=count, default=1, help="of one inference; default %(default)s"
    )
    options = flags.parse_args()
    bare = open_bare(options.arm, threads=options.threads)
    uvicorn.run(application(bare, options.arm), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
