"""A client's requests over HTTP."""

from typing import Any, TypeVar

import httpx

from mnv4serve.client.failures import Unreachable, rebuilt
from mnv4serve.client.operations import Request
from mnv4serve.errors import Expired, MnvError

T = TypeVar("T")

JSON = "application/json"
PROBLEM = "application/problem+json"


class HttpSender:
    """Sends requests one at a time over connections that are kept."""

    def __init__(self, address: str, *, headers: dict[str, str]) -> None:
        self._client = httpx.Client(base_url=address, headers=headers)

    def send(self, request: Request[T]) -> T:
        try:
            response = self._client.request(**_arguments(request))
        except httpx.TransportError as error:
            raise _failed(error) from error
        return _read(request, response)

    def close(self) -> None:
        self._client.close()


class AsyncHttpSender:
    """The same on an event loop."""

    def __init__(self, address: str, *, headers: dict[str, str]) -> None:
        self._client = httpx.AsyncClient(base_url=address, headers=headers)

    async def send(self, request: Request[T]) -> T:
        try:
            response = await self._client.request(**_arguments(request))
        except httpx.TransportError as error:
            raise _failed(error) from error
        return _read(request, response)

    async def close(self) -> None:
        await self._client.aclose()


def _arguments(request: Request[T]) -> dict[str, Any]:
    asked = dict(request.asked)
    request_id = asked.pop("request_id", None)
    headers = {"Content-Type": "application/octet-stream"}
    if request_id is not None:
        headers["X-Request-Id"] = str(request_id)
    return {
        "method": request.operation.verb,
        "url": request.operation.path,
        "params": {name: str(value) for name, value in asked.items()},
        "content": request.image,
        "headers": headers,
        "timeout": request.timeout_s,
    }


def _read(request: Request[T], response: httpx.Response) -> T:
    media = response.headers.get("content-type", "")
    if response.status_code == httpx.codes.OK and media == JSON:
        return request.operation.from_json(response.json())
    if media == PROBLEM:
        problem = response.json()
        name = problem["type"].rpartition("/")[2]
        raise rebuilt(name, problem["detail"], problem)
    raise Unreachable(f"status {response.status_code} comes from no mnv4serve", sent=True)


def _failed(error: httpx.TransportError) -> MnvError:
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return Unreachable(f"nothing answers: {error}", sent=False)
        case httpx.TimeoutException():
            return Expired("no answer came within the budget and the client's patience")
        case _:
            return Unreachable(f"the connection broke: {error}", sent=True)
