"""What is needed of Ray Serve beyond its public interface; a test fails when any of it changes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle


def by_value(handle: DeploymentHandle, method: str) -> Callable[..., Awaitable[Any]]:
    """A method of another deployment, called with its arguments inside the message.

    Straight from this process to the replica: neither the object store nor actor calls take part.
    """
    pickled = handle.options(
        method_name=method,
        _by_reference=False,
        request_serialization="pickle",
        response_serialization="pickle",
    )
    return lambda *args: _response(pickled, args)


async def _response(handle: DeploymentHandle, args: Sequence[object]) -> Any:  # noqa: ANN401
    return await handle.remote(*args)
