"""BentoML: a service process a worker, started by `bentoml serve`."""

import bentoml

from loadtests.peers.work import asked, open_work


@bentoml.service(workers=asked().workers, traffic={"timeout": 30})
class Classify:
    """Takes the picture as the raw body: a root input."""

    def __init__(self) -> None:
        self._work = open_work()

    @bentoml.api(route="/classify")
    def classify(self, image: bytes, /) -> dict[str, object]:
        return self._work(image)
