"""Where a setting comes from, and that nothing unknown or unusable passes silently."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings, SettingsError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "polymath.toml"


def test_defaults():
    settings = Settings.load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.base == settings.encoder == "default"
    assert settings.catalog.name == "catalog" and settings.catalog.is_dir()
    assert settings.api_keys == ()


def test_flags_win_over_environment_over_file(config: Path, monkeypatch: pytest.MonkeyPatch):
    config.write_text('host = "file"\nport = 1\nbase = "file"\n')
    monkeypatch.setenv("POLYMATH_PORT", "2")
    monkeypatch.setenv("POLYMATH_BASE", "environment")
    settings = Settings.load(config, {"base": "flag", "host": None})
    assert (settings.host, settings.port, settings.base) == ("file", 2, "flag")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYMATH_PORT", "")
    monkeypatch.setenv("POLYMATH_API_KEYS", "")
    assert Settings.load() == Settings()


@pytest.mark.parametrize(
    ("name", "hint"), [("POLYMATH_PROT", "did you mean POLYMATH_PORT?"), ("polymath_hots", "POLYMATH_HOST?")]
)
def test_a_misspelt_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch, name: str, hint: str):
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.load()
    assert hint in str(caught.value)


def test_a_misspelt_key_names_the_nearest(config: Path):
    config.write_text("prot = 1")
    with pytest.raises(SettingsError, match=r"unknown key 'prot' in .*polymath.toml; did you mean port\?"):
        Settings.load(config)


def test_a_key_like_no_other_lists_them(config: Path):
    config.write_text("zzzzqqq = 1")
    with pytest.raises(SettingsError, match=r"known ones: host, port"):
        Settings.load(config)


@pytest.mark.parametrize(
    ("content", "expected"), [("port = ", "not valid TOML"), (b"\xff", "not valid TOML")]
)
def test_a_damaged_file(config: Path, content: str | bytes, expected: str):
    config.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SettingsError, match=expected):
        Settings.load(config)


def test_a_missing_file(config: Path):
    with pytest.raises(SettingsError, match=r"cannot read the config file .*No such file"):
        Settings.load(config)


def test_an_unusable_value_names_its_source(config: Path, monkeypatch: pytest.MonkeyPatch):
    config.write_text('max_num_seqs = "many"')
    with pytest.raises(SettingsError, match=r"max_num_seqs in .*polymath.toml: .*'many'"):
        Settings.load(config)
    monkeypatch.setenv("POLYMATH_MAX_NUM_SEQS", "lots")
    with pytest.raises(SettingsError, match=r"POLYMATH_MAX_NUM_SEQS: .*'lots'"):
        Settings.load(config)
    with pytest.raises(SettingsError, match=r"--port: .*'70000'"):
        Settings.load(None, {"port": 70000, "max_num_seqs": 3})


def test_immutable_and_closed():
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


def test_keys_are_split_and_hidden(monkeypatch: pytest.MonkeyPatch, config: Path):
    monkeypatch.setenv("POLYMATH_API_KEYS", "first, second,")
    settings = Settings.load()
    assert [key.get_secret_value() for key in settings.api_keys] == ["first", "second"]
    assert "first" not in repr(settings)
    monkeypatch.delenv("POLYMATH_API_KEYS")
    config.write_text('api_keys = ["third"]')
    assert [key.get_secret_value() for key in Settings.load(config).api_keys] == ["third"]


@pytest.mark.parametrize("value", [" , ", "a b", "schlüssel", "tab\tkey"])
def test_an_unusable_key_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("POLYMATH_API_KEYS", value)
    with pytest.raises(SettingsError, match="POLYMATH_API_KEYS") as caught:
        Settings.load()
    assert value.strip(" ,") == "" or value not in str(caught.value)


def test_folders_follow_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Settings().home == tmp_path / "polymath"
    monkeypatch.setenv("POLYMATH_HOME", "~/weights")
    assert Settings.load().home == Path.home() / "weights"


def test_roots_are_split_at_colons_and_absolute(monkeypatch: pytest.MonkeyPatch, config: Path):
    monkeypatch.setenv("POLYMATH_ADAPTER_ROOTS", "/srv/a:/srv/b:")
    assert Settings.load().adapter_roots == (Path("/srv/a"), Path("/srv/b"))
    monkeypatch.setenv("POLYMATH_ADAPTER_ROOTS", "srv/a")
    with pytest.raises(SettingsError, match=r"POLYMATH_ADAPTER_ROOTS: .*srv/a is not an absolute path"):
        Settings.load()
    monkeypatch.delenv("POLYMATH_ADAPTER_ROOTS")
    config.write_text('adapter_roots = ["/srv/c", "~/d"]')
    assert Settings.load(config).adapter_roots == (Path("/srv/c"), Path.home() / "d")


def test_the_state_is_under_home_unless_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYMATH_HOME", "/big")
    assert Settings.load().state == Path("/big/data")
    monkeypatch.setenv("POLYMATH_STATE_FOLDER", "~/state")
    assert Settings.load().state == Path.home() / "state"


@pytest.mark.parametrize("value", ["a b", "sha256:abc", "sha256:" + "g" * 64])
def test_an_unusable_admin_key_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("POLYMATH_ADMIN_KEY", value)
    with pytest.raises(SettingsError, match="POLYMATH_ADMIN_KEY") as caught:
        Settings.load()
    assert value not in str(caught.value)


def test_secrets_are_not_shown():
    settings = Settings(admin_key="the-secret", database_url="postgresql://me:the-secret@host/db")  # type: ignore[arg-type]
    assert "the-secret" not in repr(settings)
