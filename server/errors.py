"""The ways a request can go wrong, each with the status, type, code and field its client is told.

Decides what each failure is called; `server/api/error_handlers.py` alone turns them into HTTP answers.
"""


class PolymathError(Exception):
    """A failure its client may read about. `param` names the field of the request that caused it."""

    status = 500
    type = "server_error"
    code: str | None = None
    retry_after: int | None = None  # seconds

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code


class InvalidRequestError(PolymathError):
    """The request cannot be served as it is."""

    status = 400
    type = "invalid_request_error"


class ContextLengthError(InvalidRequestError):
    """Prompt, or prompt and answer together, do not fit the context."""

    code = "context_length_exceeded"


class BodyTooLargeError(InvalidRequestError):
    """The request's body is larger than this server reads."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaTypeError(InvalidRequestError):
    """The request's body does not say that it is JSON."""

    status = 415
    code = "unsupported_media_type"


class AuthenticationError(InvalidRequestError):
    """No key, or one this server does not know."""

    status = 401
    code = "invalid_api_key"


class PermissionDeniedError(PolymathError):
    """The key does not open this, or nothing does."""

    status = 403
    type = "permission_error"
    code = "admin_key_required"


class AdminClosedError(PermissionDeniedError):
    """No admin key is configured."""

    code = "admin_closed"


class SpecialistNotFoundError(InvalidRequestError):
    """No specialist of this name is loaded, or can be."""

    status = 404
    code = "adapter_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no specialist {shortened(name)!r}; GET /admin/adapters lists them.", param="name"
        )


class ModelNotFoundError(InvalidRequestError):
    """No such model, specialist or base: answering with another one would be a lie."""

    status = 404
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model {shortened(model)!r} does not exist; GET /v1/models lists them.", param="model"
        )


class OverloadedError(PolymathError):
    """Too many requests wait already."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retry_after = 1


class UnavailableError(PolymathError):
    """The server cannot take requests now: it is loading, draining, or its engine has died."""

    status = 503
    retry_after = 5


class SpecialistUnloadedError(PolymathError):
    """The operator ended the requests of this specialist to unload it."""

    status = 503
    code = "specialist_unloaded"
    retry_after = 1


class SpecialistUnavailableError(UnavailableError):
    """The specialist is known, and could not be brought back into memory; `reason` is the AdapterError's code."""

    code = "specialist_unavailable"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The specialist {name!r} cannot be brought into memory ({reason}); try again later.",
            param="model",
        )


class GenerationError(PolymathError):
    """The engine could not go on with a request that it had accepted."""


class ClientDisconnectedError(Exception):
    """The client went away; nobody is left to answer."""


def shortened(text: str, limit: int = 100) -> str:
    """What a client sent, short enough to be repeated to it."""
    return text if len(text) <= limit else text[:limit] + "..."


def is_for_people(error: Exception) -> bool:
    """Our own exception types are written as one clear sentence; what libraries raise seldom is."""
    return type(error).__module__.partition(".")[0] in ("server", "router", "specialists")
