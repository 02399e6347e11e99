"""Every setting of the server, and the only place that reads the environment.

Decides where a value comes from (command line over environment over TOML file over default) and refuses
what it does not know: a misspelt variable or key is an error naming the nearest valid one, never silently
ignored. Decides nothing about what the values are used for.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict

ENV_PREFIX = "POLYMATH_"
_SECRET = frozenset({"api_keys", "admin_key", "database_url"})
CATALOG = Path(__file__).resolve().parent.parent / "specialists" / "catalog"


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it and where it came from."""


def _user_folder(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "polymath"


class Settings(BaseSettings):
    """All settings; immutable. Build it with `Settings.load`, which explains its errors in one sentence."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, validate_default=True
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    home: Path = Field(
        default_factory=lambda: _user_folder("XDG_CACHE_HOME", ".cache"),
        description="cache folder of downloaded and imported weights",
    )
    data: Path | None = Field(
        None, description="folder of the public data sets, for training and measuring; serving reads none"
    )

    base: str = Field("default", description="base model: default, a local folder, a GGUF file or a hub id")
    encoder: str = Field(
        "default", description="the delegator's encoder: default, a local folder or a hub id"
    )
    catalog: Path = Field(CATALOG, description="folder of the published specialists, one sub-folder each")
    adapter_folder: Path | None = Field(None, description="one more folder of specialists")
    adapter_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="folders, separated by colons, below which specialists may be loaded by path"
    )
    state_folder: Path | None = Field(
        None,
        description="what operators loaded: its database and uploaded files; data/ under home by default",
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL of several servers, as postgresql://...; a file in state_folder by default",
    )
    refresh_seconds: float = Field(
        5.0, ge=0, description="how often other servers' changes in the database are taken over; 0 is never"
    )
    router_weights: Path | None = Field(
        None,
        description="folder of the delegator's trained part; the published one by default",
    )
    router_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="confidence from which a specialist is chosen; the trained one by default",
    )

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: Literal["none", "int8", "bnb-nf4", "bnb-int8"] = Field(
        "none", description="how the base's weights are kept in memory; adapters stay as they are"
    )
    kernels: Literal["auto", "native", "torch"] = Field(
        "auto", description="the engine's own CPU kernels: where they can be compiled, always, or never"
    )
    batch_invariant: bool = Field(
        False,
        description="insist on the same tokens whoever shares the batch, exactly; needs the native kernels",
    )
    max_draft_rows: int = Field(
        8,
        ge=0,
        description="rows up to which a step is filled with guesses of what its streams say next; 0 for none",
    )
    threads: int | None = Field(None, ge=1, description="threads of one model step; all cores by default")
    max_num_seqs: int = Field(32, ge=1, description="sequences that run at the same time")
    num_blocks: int = Field(2048, ge=1, description="blocks of the key/value cache")
    block_size: int = Field(32, ge=1, description="tokens in one cache block")
    max_num_batched_tokens: int = Field(512, ge=1, description="tokens of one model step")
    max_prefill_tokens_while_decoding: int = Field(
        128, ge=1, description="prompt tokens that may share a step with running streams"
    )
    reuse_prefixes: bool = Field(True, description="compute shared beginnings of prompts once")
    max_model_len: int = Field(4096, ge=2, description="longest prompt and answer together, in tokens")
    max_adapters: int = Field(32, ge=1, description="specialists that one step can mix")
    max_lora_rank: int = Field(64, ge=1, description="largest rank of a specialist's adapter")
    max_resident_adapters: int = Field(256, ge=1, description="specialists in memory; more are read on use")
    max_resident_bytes: int = Field(
        8 * 1024**3, ge=1, description="memory of all specialists together; the idle ones give way"
    )
    max_upload_bytes: int = Field(
        1024**3, ge=1024, description="largest upload of a specialist, packed and unpacked; more gets a 413"
    )
    unload_seconds: float = Field(
        30.0, ge=0, description="how long an unload waits for running answers unless it says itself"
    )

    max_queued_requests: int = Field(256, ge=0, description="requests that may wait; more get a 429")
    default_max_tokens: int | None = Field(
        None,
        ge=1,
        description="length of an answer whose request gives none; what fits the context by default",
    )
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="largest request body; more gets a 413")
    drain_seconds: float = Field(30.0, ge=0, description="how long running answers may take after SIGTERM")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="client keys, separated by commas; when set, each request must bear one"
    )
    admin_key: SecretStr | None = Field(
        None, description="key of /admin, which is closed without; a key may be given as sha256:HEX"
    )

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["plain", "json"] = "plain"

    @field_validator("home", "data", "catalog", "adapter_folder", "state_folder", "router_weights")
    @classmethod
    def _expand_user(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        keys = [key.strip() for key in value.split(",") if key.strip()]
        if value.strip() and not keys:
            # "," must not quietly open the server to everybody.
            raise ValueError("holds no key")
        return keys

    @field_validator("adapter_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("adapter_roots")
    @classmethod
    def _check_roots(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        roots = tuple(root.expanduser() for root in roots)
        for root in roots:
            if not root.is_absolute():
                raise ValueError(f"{root} is not an absolute path")
        return roots

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            _check_key(key)
        return keys

    @field_validator("admin_key")
    @classmethod
    def _check_admin_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            _check_key(key)
        return key

    @property
    def state(self) -> Path:
        """Where this server keeps what must outlive it."""
        return self.state_folder or self.home / "data"

    @classmethod
    def load(cls, config: Path | None = None, flags: Mapping[str, Any] | None = None) -> Self:
        """Merge the sources; a flag that is None was not given. Raises SettingsError."""
        _refuse_unknown_variables(os.environ, cls.model_fields)
        from_file = {} if config is None else _read_toml(config, cls.model_fields)
        from_env = EnvSettingsSource(cls)()
        from_flags = {name: value for name, value in (flags or {}).items() if value is not None}
        try:
            return cls(**{**from_file, **from_env, **from_flags})
        except ValidationError as error:
            raise SettingsError(_explain(error, from_flags, from_env, config)) from error


def _check_key(key: SecretStr) -> None:
    text = key.get_secret_value()
    if not (text.isascii() and text.isprintable() and text and " " not in text):
        raise ValueError("a key must be printable ASCII without spaces, as it travels in a header")
    kind, _, digest = text.partition(":")
    if kind == "sha256" and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("a key that begins with sha256: must go on with 64 hexadecimal digits")


def _refuse_unknown_variables(environ: Iterable[str], fields: Iterable[str]) -> None:
    valid = [ENV_PREFIX + name.upper() for name in fields]
    for name in sorted(environ):
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in valid:
            raise SettingsError(f"unknown environment variable {name}{_nearest(name.upper(), valid)}")


def _read_toml(path: Path, fields: Iterable[str]) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the config file {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    valid = list(fields)
    for key in values:
        if key not in valid:
            raise SettingsError(f"unknown key {key!r} in {path}{_nearest(key, valid)}")
    return values


def _nearest(name: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known ones: {', '.join(valid)}"


def _explain(
    error: ValidationError, flags: Mapping[str, Any], env: Mapping[str, Any], config: Path | None
) -> str:
    """One sentence for the first problem. A secret value is never part of it."""
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0])
    if name in flags:
        source = f"--{name.replace('_', '-')}"
    elif name in env:
        source = ENV_PREFIX + name.upper()
    else:
        source = f"{name} in {config}"
    shown = "" if name in _SECRET else f" (got {str(problem['input'])[:80]!r})"
    return f"{source}: {problem['msg']}{shown}"
