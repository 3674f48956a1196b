"""Ray Serve with its default settings: a replica a worker behind the Python proxy."""

import signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loadtests.peers.work import HOST, Asked, asked, open_work


class Classify:
    """Decode and inference in the replica."""

    def __init__(self) -> None:
        self._work = open_work()

    async def __call__(self, request: Request) -> Response:
        return JSONResponse(self._work(await request.body()))


def main() -> None:
    given: Asked = asked()
    ray.init(
        address="local",
        num_cpus=given.workers,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": given.environment()},
    )
    serve.start(http_options={"host": HOST, "port": given.port})
    deployment = serve.deployment(num_replicas=given.workers)(Classify)
    serve.run(deployment.bind(), route_prefix="/classify")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
