"""One exception per gRPC code, carrying the server's own words.

A server answers an error with a code and a short message (``dataset "censu" does not exist; ...``). pyarrow wraps the
message in its own words and maps several codes onto one class; :func:`from_arrow` undoes both.

>>> from volary import errors
>>> issubclass(errors.NotFoundError, errors.VolaryError)
True
>>> errors.from_code("NOT_FOUND", 'model "churn" does not exist')
NotFoundError('model "churn" does not exist')
"""

from __future__ import annotations

import re
from typing import ClassVar

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "DataLossError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
    "VolaryError",
    "from_arrow",
    "from_code",
]


class VolaryError(Exception):
    """Base of every error that a server answers. ``code`` is the gRPC code's name."""

    code: ClassVar[str] = "UNKNOWN"

    @property
    def message(self) -> str:
        """The server's words."""
        return str(self.args[0]) if self.args else ""


class CancelledError(VolaryError):
    """The call or the job was cancelled."""

    code = "CANCELLED"


class UnknownError(VolaryError):
    """An error of no known code."""

    code = "UNKNOWN"


class InvalidArgumentError(VolaryError, ValueError):
    """The question is wrong whatever the state of the server: a bad name, option, type or value."""

    code = "INVALID_ARGUMENT"


class DeadlineExceededError(VolaryError, TimeoutError):
    """The call took longer than its timeout."""

    code = "DEADLINE_EXCEEDED"


class NotFoundError(VolaryError, LookupError):
    """The named dataset, model, version, job or ticket does not exist."""

    code = "NOT_FOUND"


class AlreadyExistsError(VolaryError):
    """The dataset exists and the mode is ``error``."""

    code = "ALREADY_EXISTS"


class PermissionDeniedError(VolaryError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class ResourceExhaustedError(VolaryError):
    """A limit is reached: message size, memory, disk, jobs at once."""

    code = "RESOURCE_EXHAUSTED"


class FailedPreconditionError(VolaryError):
    """The state of the server forbids it now."""

    code = "FAILED_PRECONDITION"


class AbortedError(VolaryError):
    """The work was given up, as when another writer came first or the job's coordinator changed."""

    code = "ABORTED"


class OutOfRangeError(VolaryError, ValueError):
    """A position lies past the end."""

    code = "OUT_OF_RANGE"


class UnimplementedError(VolaryError, NotImplementedError):
    """The server does not know this call."""

    code = "UNIMPLEMENTED"


class InternalError(VolaryError):
    """A defect of the server."""

    code = "INTERNAL"


class UnavailableError(VolaryError, ConnectionError):
    """The server cannot be reached, is stopping, or lost a server it needs. Another try may succeed."""

    code = "UNAVAILABLE"


class DataLossError(VolaryError):
    """Stored data are damaged."""

    code = "DATA_LOSS"


class UnauthenticatedError(VolaryError):
    """The caller has not said who it is."""

    code = "UNAUTHENTICATED"


_BY_CODE: dict[str, type[VolaryError]] = {
    kind.code: kind
    for kind in (
        CancelledError,
        UnknownError,
        InvalidArgumentError,
        DeadlineExceededError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        FailedPreconditionError,
        AbortedError,
        OutOfRangeError,
        UnimplementedError,
        InternalError,
        UnavailableError,
        DataLossError,
        UnauthenticatedError,
    )
}

# The words by which Arrow's C++ Flight client names each gRPC code
# (apache/arrow: cpp/src/arrow/flight/transport/grpc/util_internal.cc).
_CODE_BY_WORDS: dict[str, str] = {
    "Flight cancelled call": "CANCELLED",
    "Flight RPC failed": "UNKNOWN",
    "Flight returned invalid argument error": "INVALID_ARGUMENT",
    "Flight returned timeout error": "DEADLINE_EXCEEDED",
    "Flight returned not found error": "NOT_FOUND",
    "Flight returned already exists error": "ALREADY_EXISTS",
    "Flight returned unauthorized error": "PERMISSION_DENIED",
    "gRPC returned resource exhausted error": "RESOURCE_EXHAUSTED",
    "gRPC returned precondition failed error": "FAILED_PRECONDITION",
    "gRPC returned aborted error": "ABORTED",
    "gRPC returned out-of-range error": "OUT_OF_RANGE",
    "Flight returned unimplemented error": "UNIMPLEMENTED",
    "Flight returned internal error": "INTERNAL",
    "Flight returned unavailable error": "UNAVAILABLE",
    "gRPC returned data loss error": "DATA_LOSS",
    "Flight returned unauthenticated error": "UNAUTHENTICATED",
}
_WRAPPED = re.compile(
    "(?P<words>" + "|".join(re.escape(words) for words in _CODE_BY_WORDS) + "),? with message: (?P<message>.*)",
    re.DOTALL,
)
# What Arrow appends: its own status detail, and the channel's debugging text.
_NOISE = re.compile(
    r"(?:\. (?:gRPC client debug context|Client context): .*|\. Detail: (?:Cancelled|Failed|Internal|TimedOut|Unauthenticated"
    r"|Unauthorized|Unavailable|Python exception.*))$",
    re.DOTALL,
)
# How a Flight server written in C++ or Python marks a code of Arrow's that gRPC does not have.
_BY_CLASS: dict[str, str] = {
    "FlightCancelledError": "CANCELLED",
    "FlightTimedOutError": "DEADLINE_EXCEEDED",
    "FlightUnauthorizedError": "PERMISSION_DENIED",
    "FlightUnauthenticatedError": "UNAUTHENTICATED",
    "FlightUnavailableError": "UNAVAILABLE",
    "FlightInternalError": "INTERNAL",
    "ArrowCancelled": "CANCELLED",
    "ArrowNotImplementedError": "UNIMPLEMENTED",
    "ArrowKeyError": "NOT_FOUND",
    "ArrowInvalid": "INVALID_ARGUMENT",
    "ArrowTypeError": "INVALID_ARGUMENT",
    "ArrowCapacityError": "RESOURCE_EXHAUSTED",
}


def from_code(code: str, message: str) -> VolaryError:
    """The exception of a gRPC code's name, as a failed job's ``error`` gives it."""
    return _BY_CODE.get(code, UnknownError)(message)


def from_arrow(error: BaseException) -> VolaryError:
    """The exception that a pyarrow error stands for, with the server's words alone.

    >>> from_arrow(ValueError("gRPC returned resource exhausted error, with message: disk full"))
    ResourceExhaustedError('disk full')
    """
    if isinstance(error, VolaryError):
        return error
    # KeyError's str() is a repr; every other class gives its words.
    text = str(error.args[0]) if error.args else str(error)
    if found := _WRAPPED.search(text):
        code, message = _CODE_BY_WORDS[found["words"]], found["message"]
    else:
        names = [kind.__name__ for kind in type(error).__mro__]
        code, message = next((_BY_CLASS[name] for name in names if name in _BY_CLASS), "UNKNOWN"), text
    while (trimmed := _NOISE.sub("", message)) != message:
        message = trimmed
    return from_code(code, message.strip())
