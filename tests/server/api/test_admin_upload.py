"""Uploads: what arrives is what was sent, and nothing that should not be there ever is."""

import gzip
import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from server.api.admin_schemas import LoadAdapterRequest
from server.api.upload import received
from server.errors import ClientDisconnectedError
from server.store.content import ContentStore
from server.store.intake import IntakeError
from tests.server.api.operator import Operator, operating
from tests.server.api.wire import error_of

LIMIT = 256 * 1024
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def server(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operating(tmp_path_factory.mktemp("upload"), tiny_qwen2, max_upload_bytes=LIMIT) as operator:
        yield operator


@pytest.fixture
def operator(server: Operator) -> Iterator[Operator]:
    yield server
    for name in set(server.names()) - {"math", "code", "loner"}:
        server.unload(name, force=True)
    root = server.services.roster.content.root
    assert list((root / "incoming").iterdir()) == [], "an upload left something behind"
    assert list((root / "sha256").iterdir()) == [], "files without a name were left behind"


@pytest.fixture(scope="module")
def files(server: Operator) -> Files:
    folder = server.write("source", seed=70, intent="spanish")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def tarred(members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_of(files: Files, prefix: str = "", mode: str = "w:gz") -> bytes:
    return tarred([(tarfile.TarInfo(prefix + name), content) for name, content in files.items()], mode)


def zip_of(files: Files, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return buffer.getvalue()


def upload(operator: Operator, parts: list[tuple[str, bytes]], **fields: Any) -> httpx.Response:
    sent = [("file", (name, content)) for name, content in parts]
    return operator.http.post("/admin/adapters", data={"name": "sent", **fields}, files=sent)


def packed(operator: Operator, content: bytes, name: str = "adapter.zip", **fields: Any) -> httpx.Response:
    return upload(operator, [(name, content)], **fields)


def refused(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, error_of(response)["code"]


PACKINGS: dict[str, Callable[[Files], list[tuple[str, bytes]]]] = {
    "files": lambda files: list(files.items()),
    "zip": lambda files: [("a.zip", zip_of(files))],
    "zip with a folder": lambda files: [("a.zip", zip_of(files, "math/"))],
    "tar.gz": lambda files: [("a.tar.gz", tar_of(files))],
    "tgz with a folder": lambda files: [("a.tgz", tar_of(files, "./math/"))],
    "tar": lambda files: [("a.tar", tar_of(files, mode="w"))],
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_gives_the_same_specialist(operator: Operator, files: Files, packing: str):
    response = upload(
        operator, PACKINGS[packing](files), pinned="true", description="sent", examples=["one", "two"]
    )
    assert response.status_code == 201, response.text
    body = response.json()
    assert (body["source"], body["intent"], body["description"]) == ("upload", "spanish", "sent")
    assert (body["pinned"], body["num_examples"], body["routing"]) == (True, 2, "routed")
    (folder,) = (operator.services.roster.content.root / "sha256").iterdir()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert operator.chat("sent").status_code == 200


def test_the_same_files_under_two_names_are_kept_once_and_until_the_last(operator: Operator, files: Files):
    assert upload(operator, list(files.items())).status_code == 201
    second = operator.http.post(
        "/admin/adapters", data={"name": "again"}, files=[("file", item) for item in files.items()]
    )
    assert second.status_code == 201
    stored = operator.services.roster.content.root / "sha256"
    assert len(list(stored.iterdir())) == 1
    operator.unload("sent")
    assert len(list(stored.iterdir())) == 1
    operator.unload("again")
    assert list(stored.iterdir()) == []


def test_replacing_drops_the_old_files_and_refusing_drops_the_new(operator: Operator, files: Files):
    assert upload(operator, list(files.items())).status_code == 201
    other = {**files, "README.md": b"another"}
    assert refused(upload(operator, list(other.items()))) == (409, "name_taken")
    stored = operator.services.roster.content.root / "sha256"
    (kept,) = stored.iterdir()
    assert upload(operator, list(other.items()), replace="true").status_code == 201
    (now,) = stored.iterdir()
    assert now != kept


@pytest.mark.parametrize(
    "name", ["pickle.bin", "adapter_model.bin", "optimizer.pt", "__init__.py", "x/manifest.json"]
)
@pytest.mark.parametrize("pack", [False, True])
def test_other_files_are_refused_by_name(operator: Operator, files: Files, name: str, pack: bool):
    sent = {**files, name: b"cos\nsystem\n"}
    response = packed(operator, zip_of(sent)) if pack else upload(operator, list(sent.items()))
    assert response.status_code == 400
    assert name.rpartition("/")[-1] in error_of(response)["message"]


@pytest.mark.parametrize(
    "name",
    [
        "../manifest.json",
        "/etc/manifest.json",
        "a/../../manifest.json",
        "..\\manifest.json",
        "C:/manifest.json",
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_names_that_lead_out_are_refused(operator: Operator, files: Files, name: str, kind: str):
    sent = {**{key: value for key, value in files.items() if key != "manifest.json"}, name: b"{}"}
    content = zip_of(sent) if kind == "zip" else tar_of(sent)
    assert refused(packed(operator, content, f"a.{kind}")) == (400, "archive_invalid")


def special(kind: bytes, name: str = "manifest.json", target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(operator: Operator, kind: bytes):
    assert refused(packed(operator, tarred([(special(kind), b"")]), "a.tgz")) == (400, "archive_invalid")


def test_a_link_in_a_zip_is_refused(operator: Operator):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("manifest.json")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert refused(packed(operator, buffer.getvalue())) == (400, "archive_invalid")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_that_comes_twice_is_refused(operator: Operator, files: Files):
    twice = [*files.items(), ("manifest.json", b"{}")]
    assert refused(upload(operator, twice)) == (400, "duplicate_file")
    members = [(tarfile.TarInfo(name), content) for name, content in twice]
    assert refused(packed(operator, tarred(members), "a.tgz")) == (400, "duplicate_file")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in twice:
            archive.writestr(name, content)
    assert refused(packed(operator, buffer.getvalue())) == (400, "duplicate_file")


def test_too_many_members_are_refused(operator: Operator):
    members = [(special(tarfile.DIRTYPE, f"d{number}"), b"") for number in range(65)]
    assert refused(packed(operator, tarred(members), "a.tgz")) == (400, "archive_invalid")
    assert refused(packed(operator, zip_of({f"d{number}/": b"" for number in range(65)}))) == (
        400,
        "archive_invalid",
    )


BOMB = b"\0" * (40 * LIMIT)


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_archive_bombs_are_refused(operator: Operator, kind: str):
    sent = {"adapter_model.safetensors": BOMB}
    content = zip_of(sent) if kind == "zip" else tar_of(sent)
    assert len(content) < LIMIT
    assert refused(packed(operator, content, f"a.{kind}")) == (413, "upload_too_large")


def test_a_bomb_in_a_tars_own_headers_is_refused(operator: Operator):
    """Extended headers are read whole by tarfile; a large one must not come that far."""
    info = tarfile.TarInfo("manifest.json")
    info.pax_headers = {"comment": "x" * (2 * 1024 * 1024)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO())
    content = gzip.compress(buffer.getvalue())
    assert len(content) < LIMIT
    response = packed(operator, content, "a.tgz")
    assert response.status_code in (400, 413)


def test_a_size_that_lies_is_not_believed(operator: Operator, files: Files):
    content = bytearray(zip_of({"adapter_model.safetensors": BOMB}))
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (100).to_bytes(4, "little")
    assert refused(packed(operator, bytes(content))) in ((400, "archive_invalid"), (413, "upload_too_large"))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x1f\x8b", b"\x1f\x8b\x08\x00" + b"x" * 60, b"no archive", BOMB[:1024]]
)
def test_damaged_archives_are_refused(operator: Operator, content: bytes):
    assert refused(packed(operator, content)) == (400, "archive_invalid")


def test_encrypted_and_endless_members_are_refused(operator: Operator, files: Files):
    content = bytearray(zip_of({"manifest.json": b"{}"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    assert refused(packed(operator, bytes(content))) == (400, "archive_invalid")
    negative = bytearray(tar_of({"manifest.json": b"{}"}, mode="w"))
    negative[124:136] = b"\xff" * 12  # a size of -1, CVE-2025-8194
    total = sum(negative[:148]) + 8 * 32 + sum(negative[156:512])
    negative[148:156] = f"{total:06o}\0 ".encode()
    assert refused(packed(operator, bytes(negative), "a.tar")) == (400, "archive_invalid")


def test_the_limit_holds_while_the_body_arrives(operator: Operator, files: Files):
    big = {**files, "README.md": b"x" * LIMIT}
    assert refused(upload(operator, list(big.items()))) == (413, "upload_too_large")


async def test_an_endless_body_is_read_no_further_than_the_limit(tmp_path: Path):
    num_chunks = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_chunks
        num_chunks += 1
        begin = b'--b\r\nContent-Disposition: form-data; name="file"; filename="README.md"\r\n\r\n'
        return {"type": "http.request", "body": begin if num_chunks == 1 else b"x" * LIMIT, "more_body": True}

    content = ContentStore.open(tmp_path)
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    try:
        with pytest.raises(IntakeError) as caught:
            async with received(request, LoadAdapterRequest, content, LIMIT):
                raise AssertionError("it was taken")
        assert caught.value.code == "upload_too_large"
        assert num_chunks < 6
        assert list((content.root / "incoming").iterdir()) == []
    finally:
        content.close()


async def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path):
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    content = ContentStore.open(tmp_path)
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    try:
        with pytest.raises(ClientDisconnectedError):
            async with received(request, LoadAdapterRequest, content, LIMIT):
                raise AssertionError("it was taken")
        assert list((content.root / "incoming").iterdir()) == []
    finally:
        content.close()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--b\r\n", "multipart/form-data"),
        (b"--b\r\nContent-Disposition: form-data; name=name\r\n\r\nx", "multipart/form-data; boundary=b"),
        (b"garbage", "multipart/form-data; boundary=b"),
        (b"--b--\r\n", "multipart/form-data; boundary=" + "b" * 1000),
        (b"", "multipart/form-data; boundary=b"),
    ],
)
def test_malformed_bodies_are_refused(operator: Operator, body: bytes, content_type: str):
    response = operator.http.post("/admin/adapters", content=body, headers={"content-type": content_type})
    assert refused(response) == (400, "invalid_upload")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"pinned": "perhaps"}, "pinned"),
        ({"expected_generation": "one"}, "expected_generation"),
        ({"expected_generation": "9" * 30}, "expected_generation"),
        ({"nonsense": "1"}, "nonsense"),
        ({"name": ["a", "b"]}, "name"),
        ({"intent": ""}, "intent"),
        ({"path": "/srv/x"}, "path"),
    ],
)
def test_fields_are_checked(operator: Operator, files: Files, fields: dict[str, Any], param: str):
    response = upload(operator, list(files.items()), **fields)
    assert (response.status_code, error_of(response)["param"]) == (400, param)


def test_fields_cannot_grow_without_limit(operator: Operator, files: Files):
    response = upload(operator, list(files.items()), description="x" * (300 * 1024))
    assert response.status_code == 413


def test_an_upload_without_files_and_one_with_too_many(operator: Operator, files: Files):
    boundary = {"content-type": "multipart/form-data; boundary=b"}
    body = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n'
    assert refused(operator.http.post("/admin/adapters", content=body, headers=boundary)) == (
        400,
        "file_missing",
    )
    both = [("a.zip", zip_of(files)), *files.items()]
    assert refused(upload(operator, both)) == (400, "file_not_allowed")
    assert refused(upload(operator, [("a.zip", zip_of(files)), ("b.zip", zip_of(files))])) == (
        400,
        "duplicate_file",
    )


def test_an_upload_that_is_no_adapter_is_refused_whole(operator: Operator, files: Files):
    config = json.loads(files["adapter_config.json"])
    dora = {**files, "adapter_config.json": json.dumps({**config, "use_dora": True}).encode()}
    response = upload(operator, list(dora.items()))
    assert response.status_code == 400 and "use_dora" in error_of(response)["message"]
    missing = {name: content for name, content in files.items() if name != "adapter_config.json"}
    assert upload(operator, list(missing.items())).status_code == 400
    assert "sent" not in operator.names()
