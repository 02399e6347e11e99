"""A multipart upload, written to disk while it arrives.

Decides which parts are taken and refuses the rest before storing it: sizes are counted byte by byte, names checked before
a file is made. Parsing and writing happen on threads, never on the event loop.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from server.api.body import explain
from server.errors import ClientDisconnectedError, InvalidRequestError, shortened
from server.store.content import ContentStore
from server.store.intake import Budget, IntakeError, check_name, unpack

MULTIPART = "multipart/form-data"
_ARCHIVE_SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")
_ENVELOPE_BYTES = 256 * 1024  # boundaries, headers and fields beside the files
_BATCH = 512 * 1024  # bytes handed to a thread at a time
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_INTEGERS = frozenset({"expected_generation"})
_LISTS = frozenset({"examples"})
_FLAGS = frozenset({"pinned", "replace", "allow_base_mismatch"})

ModelT = TypeVar("ModelT", bound=BaseModel)


@asynccontextmanager
async def received(
    request: Request, schema: type[ModelT], content: ContentStore, limit: int
) -> AsyncIterator[tuple[ModelT, Path]]:
    """The fields as `schema`, and a folder of `content` with the files. What is left of it afterwards is deleted.

    Raises InvalidRequestError and IntakeError.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit + _ENVELOPE_BYTES:
        raise IntakeError(f"the upload has {declared} bytes, this server takes {limit}", "upload_too_large")
    boundary = parse_options_header(request.headers.get("content-type", ""))[1].get(b"boundary")
    if not boundary:
        raise InvalidRequestError(
            "The multipart body's Content-Type names no boundary.", code="invalid_upload"
        )
    receiver = await asyncio.to_thread(_Receiver, boundary, content, limit)
    try:
        await _feed(request, receiver)
        folder = await asyncio.to_thread(receiver.finish)
        yield _parsed(receiver.fields, schema), folder
    finally:
        await asyncio.to_thread(receiver.close)


async def _feed(request: Request, receiver: "_Receiver") -> None:
    batch = bytearray()
    try:
        async for chunk in request.stream():
            batch += chunk
            if len(batch) >= _BATCH:
                await asyncio.to_thread(receiver.write, bytes(batch))
                batch.clear()
    except ClientDisconnect:
        raise ClientDisconnectedError from None
    await asyncio.to_thread(receiver.write, bytes(batch))


@dataclass(slots=True)
class _Part:
    """The part that is arriving."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    text: bytearray = field(default_factory=bytearray)
    file: BinaryIO | None = None


class _Receiver:
    """Takes the body piece by piece; one thread at a time."""

    def __init__(self, boundary: bytes, content: ContentStore, limit: int) -> None:
        self.fields: dict[str, list[str]] = {}
        self._content = content
        self._limit = limit
        self._folder, self._packed = content.new_folder(), content.new_folder()
        self._archive: Path | None = None
        self._names: set[str] = set()
        self._files = Budget(limit)
        self._envelope = Budget(_ENVELOPE_BYTES)
        self._part = _Part()
        self._header = bytearray(), bytearray()
        self._is_complete = False
        try:
            self._parser = self._new_parser(boundary)
        except Exception as error:
            self.close()
            raise InvalidRequestError(
                f"The multipart boundary is not usable: {error}.", code="invalid_upload"
            ) from error

    def write(self, data: bytes) -> None:
        """Raises InvalidRequestError for a malformed body, IntakeError for content that is not taken."""
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise InvalidRequestError(
                f"The multipart body is malformed: {error}.", code="invalid_upload"
            ) from None

    def finish(self) -> Path:
        """The folder with the files, unpacked. Raises what `write` raises."""
        if not self._is_complete:
            raise InvalidRequestError(
                "The multipart body ends before its last boundary.", code="invalid_upload"
            )
        if self._archive is not None:
            if self._names:
                raise IntakeError("an archive comes together with other files", "file_not_allowed")
            unpack(self._archive, self._folder, self._limit)
        elif not self._names:
            raise IntakeError("the upload has no file", "file_missing")
        return self._folder

    def close(self) -> None:
        if self._part.file is not None:
            self._part.file.close()
        for folder in (self._folder, self._packed):
            shutil.rmtree(folder, ignore_errors=True)

    def _new_parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def _on_part_begin(self) -> None:
        self._part, self._header = _Part(), (bytearray(), bytearray())
        self._envelope.spend(64)

    def _on_header_end(self) -> None:
        name, value = self._header
        self._envelope.spend(len(name) + len(value))
        self._part.headers[bytes(name).lower()] = bytes(value)
        self._header = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition", b""))
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            return
        filename = options[b"filename"].decode("utf-8", "replace")
        if filename.endswith(_ARCHIVE_SUFFIXES):
            if self._archive is not None:
                raise IntakeError("the upload has more than one archive", "duplicate_file")
            self._archive = path = self._packed / "archive"
        else:
            check_name(filename, self._names)
            path = self._folder / filename
        self._part.file = path.open("xb")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.file is None:
            self._envelope.spend(end - start)
            self._part.text += data[start:end]
        else:
            self._files.spend(end - start)
            self._part.file.write(data[start:end])

    def _on_part_end(self) -> None:
        if self._part.file is not None:
            self._part.file.close()
            return
        try:
            text = self._part.text.decode()
        except UnicodeDecodeError:
            raise InvalidRequestError(
                f"{shortened(self._part.name)}: is not UTF-8", param=shortened(self._part.name)
            ) from None
        self.fields.setdefault(self._part.name, []).append(text)

    def _on_end(self) -> None:
        self._is_complete = True


def _parsed(fields: dict[str, list[str]], schema: type[ModelT]) -> ModelT:
    """Form fields are text; those that are flags, numbers and lists become that, and the schema checks them."""
    values: dict[str, Any] = {}
    for name, found in fields.items():
        if name in _LISTS:
            values[name] = found
        elif len(found) > 1:
            raise InvalidRequestError(f"{shortened(name)}: comes more than once", param=shortened(name))
        elif name in _FLAGS:
            values[name] = _BOOLEANS.get(found[0].lower(), found[0])
        else:
            is_number = (
                name in _INTEGERS and found[0].isascii() and found[0].isdecimal() and len(found[0]) < 20
            )
            values[name] = int(found[0]) if is_number else found[0]
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise explain(error.errors(include_url=False)) from None
