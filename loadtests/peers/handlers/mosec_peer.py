"""mosec: its front in Rust, decode and inference in one worker process a core."""

import sys

import mosec
from typing_extensions import override

from loadtests.peers.work import HOST, asked, open_work


class Classify(mosec.Worker):
    """One stage; a second one for decoding would add a hop between processes."""

    def __init__(self) -> None:
        self._work = open_work()

    @override
    def deserialize(self, data: bytes) -> bytes:
        return data

    @override
    def forward(self, data: bytes) -> dict[str, object]:
        return self._work(data)


def main() -> None:
    given = asked()
    sys.argv = ["mosec", "--address", HOST, "--port", str(given.port), "--log-level", "warning"]
    server = mosec.Server()
    server.append_worker(Classify, num=given.workers, route="/classify")
    server.run()


if __name__ == "__main__":
    main()
