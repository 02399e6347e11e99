"""Which key opens what. Holds digests only, so that no key can be read from the process's own structures.

An admin key opens everything; a client key opens /v1 and never /admin. Without client keys /v1 is open to everybody;
without an admin key /admin is closed to everybody.
"""

import hashlib
import hmac
from enum import StrEnum

from pydantic import SecretStr

from server.settings import Settings, SettingsError

_HASHED = "sha256:"  # a setting may hold a key's digest, so that no file needs to hold the key


class Role(StrEnum):
    """Whom a key belongs to."""

    CLIENT = "client"
    ADMIN = "admin"


class KeyRing:
    """The configured keys. Raises SettingsError when one key would be both."""

    def __init__(self, settings: Settings) -> None:
        self._clients = [_digest_of(key) for key in settings.api_keys]
        self._admin = None if settings.admin_key is None else _digest_of(settings.admin_key)
        if self._admin in self._clients:
            raise SettingsError(
                "admin_key is also one of api_keys, which would make every client an operator"
            )

    @property
    def needs_client_key(self) -> bool:
        return bool(self._clients)

    @property
    def has_admin_key(self) -> bool:
        return self._admin is not None

    def role_of(self, token: str) -> Role | None:
        """Every key is compared, by digests of one length: the time taken tells nothing about any of them."""
        given = _digest(token)
        is_admin = self._admin is not None and hmac.compare_digest(given, self._admin)
        matches = [hmac.compare_digest(given, key) for key in self._clients]
        return Role.ADMIN if is_admin else Role.CLIENT if any(matches) else None


def fingerprint(token: str) -> str:
    """How a key is called in a log: enough to tell keys apart, nothing to use."""
    return _digest(token).hex()[:12]


def _digest_of(key: SecretStr) -> bytes:
    text = key.get_secret_value()
    return bytes.fromhex(text.removeprefix(_HASHED)) if text.startswith(_HASHED) else _digest(text)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
