"""What each key opens."""

import hashlib

import pytest

from server.keys import KeyRing, Role, fingerprint
from server.settings import Settings, SettingsError


def ring(**settings: object) -> KeyRing:
    return KeyRing(Settings(**settings))  # type: ignore[arg-type]


def test_roles():
    keys = ring(api_keys="one,two", admin_key="three")
    assert [keys.role_of(key) for key in ("one", "two", "three")] == [Role.CLIENT, Role.CLIENT, Role.ADMIN]
    for stranger in ("", "on", "onee", "ONE", "three ", "\udcff"):
        assert keys.role_of(stranger) is None
    assert keys.needs_client_key and keys.has_admin_key
    assert not ring().needs_client_key and not ring().has_admin_key


def test_a_setting_may_hold_the_digest_instead_of_the_key():
    hashed = "sha256:" + hashlib.sha256(b"three").hexdigest()
    keys = ring(admin_key=hashed)
    assert keys.role_of("three") is Role.ADMIN
    assert keys.role_of(hashed) is None, "who reads the setting does not have the key"


def test_one_key_cannot_be_both():
    with pytest.raises(SettingsError, match="also one of api_keys"):
        ring(api_keys="one,two", admin_key="two")
    with pytest.raises(SettingsError, match="also one of api_keys"):
        ring(api_keys="two", admin_key="sha256:" + hashlib.sha256(b"two").hexdigest())


def test_a_fingerprint_tells_keys_apart_and_is_none():
    assert fingerprint("one") == fingerprint("one") != fingerprint("two")
    assert len(fingerprint("one")) == 12


def test_nothing_holds_the_keys():
    keys = ring(api_keys="first-secret", admin_key="second-secret")
    assert "secret" not in repr(vars(keys))
