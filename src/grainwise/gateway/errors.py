"""One table from what went wrong to what the client is told: status, code and a body that helps, never a traceback."""

import math

import msgspec
from msgspec import Struct

from grainwise.control.actions import Reject, RejectCode
from grainwise.domain.errors import CapacityError, ConfigurationError, GrainwiseError, InfeasibleError, InputError
from grainwise.domain.time import SECOND, Micros
from grainwise.runtimes.payloads import ArenaFullError


class FieldError(InputError):
    """A request does not fit the app, in a field that is known by its path (``inputs[0].shape``)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class UnknownAppError(InputError):
    """No such app (or version of it) is served here; the message names those that are."""


class RouteError(InputError):
    """No such path is served here."""


class MethodError(InputError):
    """The path exists, but not for this method."""

    def __init__(self, message: str, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class BodyTooLargeError(InputError):
    """A body, or what it claims to hold, is over a limit; ``field`` is the part of it, where one is to blame."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class MediaTypeError(InputError):
    """The body is in a form that this endpoint does not read."""


class NotAcceptableError(InputError):
    """The answer cannot be given in the form that the client asks for."""


class SlowClientError(InputError):
    """The client did not send its body in time."""


class UnauthorizedError(InputError):
    """The admin listener wants a token, and this one is missing or wrong."""


class DrainingError(CapacityError):
    """The server is about to stop and takes no new request."""


class ClientGoneError(GrainwiseError):
    """The client closed its connection; nobody reads the answer."""


STATUS_BY_REJECT: dict[RejectCode, int] = {
    "queue_full": 429,
    "too_late": 429,
    "backpressure": 429,
    "deadline": 504,
    "stage_failed": 500,
    "stage_lost": 502,
    "no_capacity": 503,
    "unknown_app": 404,
}

# The first row whose type fits decides, so a subclass stands above its parent.
STATUS_BY_ERROR: tuple[tuple[type[GrainwiseError], int, str], ...] = (
    (UnknownAppError, 404, "unknown_app"),
    (RouteError, 404, "unknown_path"),
    (MethodError, 405, "method"),
    (BodyTooLargeError, 413, "too_large"),
    (MediaTypeError, 415, "media_type"),
    (NotAcceptableError, 406, "not_acceptable"),
    (SlowClientError, 408, "slow_client"),
    (UnauthorizedError, 401, "unauthorized"),
    (InputError, 400, "input"),
    (ArenaFullError, 429, "backpressure"),
    (DrainingError, 503, "draining"),
    (CapacityError, 503, "no_capacity"),
    (InfeasibleError, 409, "infeasible"),
    (ConfigurationError, 400, "configuration"),
)

_ADVICE: dict[RejectCode, str] = {
    "queue_full": "the queue is full; send again later or raise max_requests",
    "too_late": "the request could not meet its deadline; send again later or allow more time",
    "backpressure": "there is no memory for payloads now; send again later",
    "deadline": "the deadline passed before there was an answer",
    "stage_failed": "a stage failed on this request",
    "stage_lost": "the process of a stage ended twice on this request, which is now quarantined; change the input",
    "no_capacity": "no instance can serve the app now",
    "unknown_app": "the controller does not know this app",
}

# By the rule with which the controller rejects a request for what its stage said.
_STAGE_VERB: dict[str, str] = {
    "the stage declared": "refused this request:",
    "the stage raised": "raised",
    "the stage value": "broke its declaration:",
}


class ErrorBody(Struct, frozen=True, omit_defaults=True):
    """What a client reads. ``error`` is for people, ``code`` for programs; the others are there where known."""

    error: str
    code: str
    stage: str | None = None
    request: int | None = None
    field: str | None = None


class Failure(Struct, frozen=True):
    """An answer that is an error: its status, its body, and headers beyond the usual ones."""

    status: int
    body: ErrorBody
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def encode(self) -> bytes:
        """The body as JSON."""
        return msgspec.json.encode(self.body)


def retry_after(delay: Micros) -> tuple[bytes, bytes]:
    """The ``Retry-After`` header for a delay, in whole seconds and never 0."""
    return (b"retry-after", b"%d" % max(1, math.ceil(delay / SECOND)))


def failure_of_reject(action: Reject) -> Failure:
    """The answer to a request that the controller rejected."""
    status = STATUS_BY_REJECT[action.code]
    headers = (retry_after(action.retry_after_us),) if status in (429, 503) else ()
    body = ErrorBody(
        error=_said(action),
        code=action.code,
        stage=action.stage or None,
        request=action.request,
    )
    return Failure(status, body, headers)


def _said(action: Reject) -> str:
    """What a person reads. A stage that failed speaks for itself; every other reason comes with what to do about it."""
    because = action.because
    reason = dict(because.facts).get("reason")
    verb = _STAGE_VERB.get(because.rule) if action.code == "stage_failed" else None
    if verb is not None and reason is not None:
        return f"stage {action.stage} {verb} {reason}"
    where = f" (stage {action.stage})" if action.stage else ""
    return f"{_ADVICE[action.code]}{where}: {because.render()}"


def failure_of_error(error: Exception, request: int | None = None) -> Failure:
    """The answer for an exception. Anything unforeseen becomes a 500 that says nothing about the inside."""
    for kind, status, code in STATUS_BY_ERROR:
        if isinstance(error, kind):
            headers: tuple[tuple[bytes, bytes], ...] = (retry_after(0),) if status in (429, 503) else ()
            if isinstance(error, MethodError):
                headers = ((b"allow", ", ".join(error.allow).encode()),)
            elif isinstance(error, UnauthorizedError):
                headers = ((b"www-authenticate", b'Bearer realm="grainwise admin"'),)
            field = error.field if isinstance(error, FieldError | BodyTooLargeError) else None
            return Failure(status, ErrorBody(str(error), code, request=request, field=field), headers)
    if isinstance(error, GrainwiseError):
        return Failure(500, ErrorBody(str(error), "internal", request=request))
    return Failure(500, ErrorBody("internal error; the server's log has the details", "internal", request=request))
