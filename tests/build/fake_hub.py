"""A hub on this machine: answers, redirects and breaks off the way the real one may."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from typing_extensions import override

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """One repository with one file."""

    content: bytes
    repository: str = "timm/mobilenetv4_tiny"
    commit: str = COMMIT
    digest: str | None = None
    """What it says the file's hash is; the true one where None."""
    knows_ranges: bool = True
    breaks_after: int | None = None
    """Bytes of each answer that arrive before the connection is cut."""
    dies_after: int | None = None
    """Bytes of the file after which none arrive any more."""
    renamed_from: str = "nobody/nothing"
    endpoint: str = ""
    storage: str = ""
    """The same server under another name, as files lie elsewhere than the hub."""
    asked: list[str] = field(default_factory=list)
    """Method and range of each request."""

    def headers(self) -> dict[str, str]:
        digest = self.digest or hashlib.sha256(self.content).hexdigest()
        return {
            "X-Repo-Commit": self.commit,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(self.content)),
            "ETag": '"something else"',
            "Location": f"{self.storage}/storage/file?signed=yes",
        }


class _Server(ThreadingHTTPServer):
    """Knows the hub that its handlers play."""

    def __init__(self, hub: FakeHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    @override
    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def do_HEAD(self) -> None:
        self.answer(self.server.hub)

    def do_GET(self) -> None:
        self.answer(self.server.hub)

    def answer(self, hub: FakeHub) -> None:
        hub.asked.append(f"{self.command} {self.headers.get('Range', '')}".strip())
        if self.path.startswith(f"/{hub.repository}/resolve/"):
            self.reply(302, hub.headers())
        elif self.path.startswith(f"/{hub.renamed_from}/"):
            self.reply(307, {"Location": self.path.replace(hub.renamed_from, hub.repository)})
        elif self.path.startswith("/storage/"):
            self.send_file(hub)
        else:
            self.reply(404, {})

    def send_file(self, hub: FakeHub) -> None:
        named = self.headers.get("Range", "") if hub.knows_ranges else ""
        first = int(named.removeprefix("bytes=").rstrip("-") or 0)
        rest = hub.content[first:]
        self.reply(206 if named else 200, {}, length=len(rest))
        alive = rest if hub.dies_after is None else rest[: max(0, hub.dies_after - first)]
        self.wfile.write(alive if hub.breaks_after is None else alive[: hub.breaks_after])

    def reply(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub on a free port."""
    server = _Server(hub)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    hub.storage = hub.endpoint.replace("127.0.0.1", "localhost")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
