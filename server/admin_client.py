"""A client of `/admin/adapters`, for the command line.

Decides how a failure of the call reads: one sentence that says what to do.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

_TIMEOUT = httpx.Timeout(
    30.0, read=600.0, write=600.0
)  # a load waits for the one before it, an upload for the disk


class AdminClientError(Exception):
    """The call did not do what was asked; the message is one sentence."""


class AdminClient:
    """Speaks to one server. A context manager. Every method raises AdminClientError."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def list(self) -> dict[str, Any]:
        return self._call("GET", "/admin/adapters")

    def load(self, name: str, path: str | None, **fields: Any) -> dict[str, Any]:
        """Load a folder of the server's machine, or with `path` None the configured specialist of this name."""
        given = {key: value for key, value in {"path": path, **fields}.items() if value is not None}
        return self._call("POST", "/admin/adapters", json={"name": name, **given})

    def upload(self, name: str, source: Path, **fields: Any) -> dict[str, Any]:
        """Load a folder or an archive of this machine."""
        given = {key: _as_text(value) for key, value in fields.items() if value is not None}
        with _opened(source) as files:
            return self._call("POST", "/admin/adapters", data={"name": name, **given}, files=files)

    def update(self, name: str, **changes: Any) -> dict[str, Any]:
        return self._call("PATCH", _place_of(name), json=changes)

    def unload(self, name: str, *, force: bool, timeout: float | None) -> dict[str, Any]:
        params = {"force": str(force).lower()} | ({} if timeout is None else {"timeout": str(timeout)})
        return self._call("DELETE", _place_of(name), params=params)

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TimeoutException:
            raise AdminClientError(f"{self._url} did not answer in time") from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise AdminClientError(
                f"cannot reach {self._url} ({error}); is the server running there? --url names another"
            ) from None
        if response.is_success:
            return dict(response.json())
        raise AdminClientError(_refusal(response))


def _place_of(name: str) -> str:
    return f"/admin/adapters/{quote(name, safe='')}"


def _refusal(response: httpx.Response) -> str:
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code}, and nothing that Polymath would say"
    if response.status_code == httpx.codes.UNAUTHORIZED:
        message += " The key is read from --key or POLYMATH_ADMIN_KEY."
    return message


@contextmanager
def _opened(source: Path) -> Iterator[list[tuple[str, Any]]]:
    """The parts of an upload: an archive, or all that lies in a folder."""
    with ExitStack() as stack:
        try:
            paths = [source]
            if source.is_dir():
                paths = sorted(source.iterdir())
            yield [("file", (path.name, stack.enter_context(path.open("rb")))) for path in paths]
        except OSError as error:
            raise AdminClientError(f"cannot read {source}: {error.strerror}") from None


def _as_text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
