"""What the API server's refusals are to us.

::

    KubeError             a call did not succeed; the caller may try again later
    ├── Unreachable       no answer: connection, TLS or time-out
    ├── Conflict          the object changed meanwhile, exists already, or another manager owns a field (409)
    ├── NotFound          neither object nor kind is there (404)
    └── Gone              the resource version is too old to watch from (410): list again
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

FIELD_CONFLICT = "FieldManagerConflict"


class KubeError(Exception):
    """The API server's answer, or that there was none.

    Attributes:
        status: HTTP status, 0 without an answer.
        reason: the server's word, such as ``Forbidden``.
        retry_after: how long the server asks to wait, seconds, None when it does not.
        field_conflicts: fields that other managers own, each with who does.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        field_conflicts: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.field_conflicts = field_conflicts

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed in a moment."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class Unreachable(KubeError):
    """No answer."""

    @property
    def transient(self) -> bool:
        return True


class Conflict(KubeError):
    """409."""


class NotFound(KubeError):
    """404."""


class Gone(KubeError):
    """410."""


_BY_STATUS: dict[int, type[KubeError]] = {
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Gone,
}


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> KubeError:
    """The error that an answer of 4xx or 5xx is; the body is a ``Status`` object, or whatever a proxy wrote."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        answer = {"message": body[:500].decode(errors="replace").strip()}
    reason = str(answer.get("reason") or _phrase(status))
    causes = (answer.get("details") or {}).get("causes") or ()
    after = headers.get("Retry-After", "")
    return _BY_STATUS.get(status, KubeError)(
        f"{status} {reason}: {answer.get('message') or 'no message'}",
        status=status,
        reason=reason,
        retry_after=float(after) if after.isdigit() else None,
        field_conflicts=tuple(
            f"{cause.get('field')} ({cause.get('message')})"
            for cause in causes
            if cause.get("reason") == FIELD_CONFLICT
        ),
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
