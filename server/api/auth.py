"""Who may use what: /v1 is for everybody or for the bearers of a key, /admin for the bearer of the admin key only.

Decides nothing else. What the keys open is written in `server/keys.py`.
"""

from fastapi import Request

from server.api.audit import audit
from server.api.deps import lifecycle_of
from server.errors import AdminClosedError, AuthenticationError, PermissionDeniedError, PolymathError
from server.keys import Role


def require_client_key(request: Request) -> None:
    """Raises AuthenticationError when keys are configured and the request bears none of them."""
    keys = lifecycle_of(request).keys
    if not keys.needs_client_key:
        return
    if keys.role_of(_token_of(request)) is None:
        raise AuthenticationError("Incorrect API key provided.")


def require_admin_key(request: Request) -> None:
    """Raises AdminClosedError, AuthenticationError or PermissionDeniedError unless it bears the admin key.

    Whoever is turned away is in the audit log.
    """
    try:
        _check_admin_key(request)
    except PolymathError as error:
        audit(request, f"{request.method} {request.url.path}", "denied", code=error.code)
        raise


def _check_admin_key(request: Request) -> None:
    keys = lifecycle_of(request).keys
    if not keys.has_admin_key:
        raise AdminClosedError(
            "This server's specialists cannot be administered: no admin key is set. Set POLYMATH_ADMIN_KEY."
        )
    role = keys.role_of(_token_of(request))
    if role is None:
        raise AuthenticationError("Incorrect API key provided.")
    if role is not Role.ADMIN:
        raise PermissionDeniedError("A client key does not open this; send the admin key.")


def _token_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthenticationError("You did not provide an API key; send Authorization: Bearer KEY.")
    return token.strip()
