"""LitServe: worker processes behind its fast queue, as it recommends for many requests a second."""

from typing import Annotated

import litserve
from fastapi import Body
from typing_extensions import override

from loadtests.peers.work import HOST, asked, open_work


class Classify(litserve.LitAPI):
    """Takes the picture as the raw body, which saves it from JSON and forms."""

    @override
    def setup(self, device: str) -> None:
        del device
        self._work = open_work()

    @override
    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    @override
    def predict(self, image: bytes) -> dict[str, object]:
        return self._work(image)

    @override
    def encode_response(self, output: dict[str, object]) -> dict[str, object]:
        return output


def main() -> None:
    given = asked()
    server = litserve.LitServer(
        Classify(api_path="/classify"),
        accelerator="cpu",
        workers_per_device=given.workers,
        fast_queue=True,
    )
    server.run(host=HOST, port=given.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
