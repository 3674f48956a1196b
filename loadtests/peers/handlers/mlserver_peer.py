"""MLServer: parallel workers, and a custom handler so that the picture need not become JSON."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import Body
from mlserver import MLModel
from mlserver.handlers import custom_handler
from typing_extensions import override

from loadtests.peers.work import HOST, asked, end_on_sigterm, open_work


class Classify(MLModel):
    """Runs in each of the worker processes."""

    @override
    async def load(self) -> bool:
        self._work = open_work()
        return True

    @custom_handler(rest_path="/classify")
    async def classify(self, image: Annotated[bytes, Body()]) -> dict[str, object]:
        return self._work(image)


def main() -> None:
    given = asked()
    settings = {
        "host": HOST,
        "http_port": given.port,
        "grpc_port": given.port + 1,
        "metrics_port": given.port + 2,
        "parallel_workers": given.workers,
        "debug": False,
    }
    end_on_sigterm()
    model = {"name": "classify", "implementation": f"{__spec__.name}.Classify"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "settings.json").write_text(json.dumps(settings), "utf-8")
        Path(folder, "model-settings.json").write_text(json.dumps(model), "utf-8")
        sys.exit(subprocess.call([Path(sys.executable).with_name("mlserver"), "start", folder]))


if __name__ == "__main__":
    main()
