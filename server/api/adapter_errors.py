"""What goes wrong with specialists, as what a client is told. The codes are stable; the statuses are decided here."""

from collections.abc import Mapping
from http import HTTPStatus

from server.errors import InvalidRequestError, OverloadedError, PolymathError, UnavailableError
from server.store.errors import StoreConflictError, StoreError
from server.store.intake import IntakeError
from specialists.adapters.errors import AdapterError

# Every other code of an AdapterError or IntakeError is a 400: the adapter or the request is not as it should be.
STATUSES: Mapping[str, int] = {
    "outside_roots": HTTPStatus.FORBIDDEN,
    "folder_missing": HTTPStatus.NOT_FOUND,
    "name_taken": HTTPStatus.CONFLICT,
    "generation_mismatch": HTTPStatus.CONFLICT,
    "content_changed": HTTPStatus.CONFLICT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "upload_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "too_many": HTTPStatus.INSUFFICIENT_STORAGE,
    "no_room": HTTPStatus.INSUFFICIENT_STORAGE,
    "trial_failed": HTTPStatus.INTERNAL_SERVER_ERROR,
}


class AdapterRefusedError(PolymathError):
    """A specialist was refused; `code` says why."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, code=code)
        self.status = STATUSES.get(code, HTTPStatus.BAD_REQUEST)
        self.type = "server_error" if self.status >= 500 else "invalid_request_error"


class ChangedElsewhereError(InvalidRequestError):
    """Another server changed the specialist at the same moment."""

    status = 409
    code = "changed_elsewhere"


def to_client_error(error: Exception) -> Exception:
    """The error itself when it is none of a specialist's."""
    from specialists.engine.async_engine import EngineDeadError, EngineOverloadedError

    if isinstance(error, AdapterError | IntakeError):
        return AdapterRefusedError(_sentence(str(error)), error.code)
    if isinstance(error, StoreConflictError):
        return ChangedElsewhereError(_sentence(str(error)))
    if isinstance(error, StoreError):
        return UnavailableError(_sentence(str(error)), code="store_unavailable")
    if isinstance(error, EngineOverloadedError):
        return OverloadedError("Too many requests are waiting; try again later.")
    if isinstance(error, EngineDeadError):
        return UnavailableError("The engine has stopped; the server needs a restart.")
    return error


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
