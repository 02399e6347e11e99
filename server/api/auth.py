"""Who may use /v1: everybody, or the bearers of a configured client key. Decides nothing else."""

import hashlib
import hmac

from fastapi import Request

from server.api.deps import lifecycle_of
from server.errors import AuthenticationError


def require_client_key(request: Request) -> None:
    """Raises AuthenticationError when keys are configured and the request bears none of them."""
    keys = lifecycle_of(request).settings.api_keys
    if not keys:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthenticationError("You did not provide an API key; send Authorization: Bearer KEY.")
    given = _digest(token.strip())
    # Digests have one length, and all keys are compared: the time taken tells nothing about any of them.
    matches = [hmac.compare_digest(given, _digest(key.get_secret_value())) for key in keys]
    if not any(matches):
        raise AuthenticationError("Incorrect API key provided.")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
