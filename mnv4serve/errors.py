"""Everything that can go wrong, as one tree.

    MnvError
    ├── ServeError              one request failed; every leaf has a status on both transports
    │   ├── BadRequest
    │   │   ├── BadParameter    a parameter cannot be read or is out of range
    │   │   ├── BadImage        the bytes are no readable picture
    │   │   └── NoSuchArm       a pin or a floor that no resident arm satisfies
    │   ├── Unauthorized        no or a wrong API key where keys are configured
    │   ├── SlowBody            the body did not arrive within `read_timeout_s`
    │   ├── TooLarge            more bytes or pixels than the limits allow
    │   ├── UnsupportedMedia    a content type or picture format that is not read
    │   ├── Infeasible          the budget cannot be met even when idle
    │   ├── Busy                the budget cannot be met now, or the queue is full
    │   ├── Unavailable
    │   │   ├── NotReady        still loading
    │   │   ├── Draining        shutting down
    │   │   ├── Shed            admitted, then given up for the sake of others
    │   │   └── ArmDown         the pinned arm exists but its device is down
    │   ├── Expired             the time ran out before an answer
    │   ├── Cancelled           the caller went away
    │   └── Internal            a defect of ours
    └── SetupError              a command or the start-up cannot do what was asked
        ├── BadConfig           ends a command with the exit code of wrong usage
        ├── AddressTaken
        ├── CatalogError
        ├── HubError
        ├── WeightsMismatch
        ├── ArtifactMissing
        ├── ArtifactMismatch
        ├── BackendUnavailable
        │   └── DeviceLost      it was there, failed, and is gone until the process is started anew
        ├── ProfileError
        ├── TrainError
        └── StorageError

Messages are one sentence for the person who reads them. Catch broadly at the transports and the
command line, narrowly anywhere else.
"""

import re
from typing import Self

from typing_extensions import override


class MnvError(Exception):
    """Anything that mnv4serve raises on purpose."""


class ServeError(MnvError):
    """One request failed; the service goes on."""

    title = "The request failed"


class BadRequest(ServeError):
    """The caller has to change the request."""

    title = "Bad request"


class BadParameter(BadRequest):
    """A parameter cannot be read, is out of range or contradicts another."""

    title = "Bad parameter"


class BadImage(BadRequest):
    """The bytes are not a readable picture."""

    title = "Unreadable image"


class NoSuchArm(BadRequest):
    """No resident arm satisfies the pins and the accuracy floor."""

    title = "No such arm"


class Unauthorized(ServeError):
    """API keys are configured and the request carries none of them."""

    title = "Unauthorized"


class SlowBody(ServeError):
    """The request body did not arrive within `read_timeout_s`."""

    title = "Request body too slow"


class TooLarge(ServeError):
    """More bytes or pixels than the configured limits."""

    title = "Too large"


class UnsupportedMedia(ServeError):
    """A content type or picture format that the service does not read."""

    title = "Not an image format we read"


class Infeasible(ServeError):
    """The budget cannot be met even by an idle service; `smallest_feasible_budget_ms` could."""

    title = "Budget impossible"

    def __init__(self, message: str, *, smallest_feasible_budget_ms: float) -> None:
        super().__init__(message)
        self.smallest_feasible_budget_ms = smallest_feasible_budget_ms


class Busy(ServeError):
    """The budget cannot be met now; trying again after `retry_after_ms` may work."""

    title = "Busy"

    def __init__(
        self, message: str, *, smallest_feasible_budget_ms: float, retry_after_ms: float
    ) -> None:
        super().__init__(message)
        self.smallest_feasible_budget_ms = smallest_feasible_budget_ms
        self.retry_after_ms = retry_after_ms


class Unavailable(ServeError):
    """The service, or the part that was asked for, cannot answer at the moment."""

    title = "Unavailable"


class NotReady(Unavailable):
    """Arms are still being loaded, warmed or profiled."""

    title = "Not ready"


class Draining(Unavailable):
    """The service is shutting down and takes no new work."""

    title = "Draining"


class Shed(Unavailable):
    """The request was admitted and then given up under overload."""

    title = "Shed"


class ArmDown(Unavailable):
    """The pinned arm exists but its device does not work at the moment."""

    title = "Arm down"


class Expired(ServeError):
    """The time ran out before there was an answer."""

    title = "Deadline exceeded"


class Cancelled(ServeError):
    """The caller went away; nobody will read the answer."""

    title = "Cancelled by the caller"


class Internal(ServeError):
    """A defect of ours; the log holds the cause under the request id."""

    title = "Internal error"


def code(kind: type[ServeError]) -> str:
    """Stable name of a class on the wire and in metrics: `TooLarge` becomes `too_large`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def leaves(kind: type[ServeError] = ServeError) -> tuple[type[ServeError], ...]:
    """The classes that are raised: those below `kind` that no other class refines."""
    below = kind.__subclasses__()
    return tuple(leaf for child in below for leaf in leaves(child)) if below else (kind,)


class SetupError(MnvError):
    """A command or the start-up cannot do what was asked; the message says what to do."""


class BadConfig(SetupError):
    """A configuration value is unknown, out of range or contradicts another."""


class AddressTaken(SetupError):
    """An address or port to listen on cannot be had."""


class CatalogError(SetupError):
    """models/ is missing, incomplete or does not say what it should."""


class HubError(SetupError):
    """A published file cannot be fetched, or is not what the hub says it is."""


class WeightsMismatch(SetupError):
    """A checkpoint has other names, shapes or bytes than its architecture or catalog entry."""


class ArtifactMissing(SetupError):
    """An artifact is not built and cannot be built here; the message names the command."""


class ArtifactMismatch(SetupError):
    """An artifact computes something else than the reference it was built from."""


class BackendUnavailable(SetupError):
    """A backend's runtime or device is not there, with the reason."""

    def __init__(self, backend: str, reason: str) -> None:
        super().__init__(f"backend {backend} is not available: {reason}")
        self.backend = backend
        self.reason = reason

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """What pickling makes it from again: not the message alone."""
        return type(self), (self.backend, self.reason)


class DeviceLost(BackendUnavailable):
    """A device failed for good; its requests go elsewhere until the process is started anew."""


class ProfileError(SetupError):
    """The profile of a host cannot be measured, read or believed."""


class TrainError(SetupError):
    """Training cannot start or go on; the last good checkpoint is kept."""


class StorageError(SetupError):
    """A file cannot be written, for example because the disk is full."""
