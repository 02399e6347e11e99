"""`polymath adapters` against a running server: tables, JSON, and one sentence when something is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from server.cli import app
from tests.server.api.operator import ADMIN_KEY, Operator, operating


@pytest.fixture(scope="module")
def operator(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operating(tmp_path_factory.mktemp("cli"), tiny_qwen2) as operator:
        operator.write("sql", seed=55, intent="spanish")
        yield operator


def run(operator: Operator, *arguments: str, key: str | None = ADMIN_KEY) -> Result:
    address = ["--url", str(operator.http.base_url), *(["--key", key] if key else [])]
    return CliRunner().invoke(app, ["adapters", *arguments, *address], env={"COLUMNS": "200"})


def test_a_whole_life(operator: Operator):
    loaded = run(
        operator, "load", "sql", str(operator.root / "sql"), "--pin", "--example", "a", "--example", "b"
    )
    assert loaded.exit_code == 0, loaded.output
    assert "sql is loaded as generation" in loaded.output and "routing: routed" in loaded.output
    assert operator.get("sql")["pinned"] and operator.get("sql")["num_examples"] == 2
    table = run(operator, "list").output
    (row,) = [line for line in table.splitlines() if line.startswith("sql")]
    assert row.split()[3:6] == ["routed", "spanish", "4"]
    assert run(operator, "unpin", "sql").output == "sql is not pinned.\n"
    assert run(operator, "pin", "sql").output == "sql is pinned.\n"
    taken = run(operator, "load", "sql", str(operator.root / "sql"))
    assert taken.exit_code == 1 and taken.output.startswith("polymath: ") and "already loaded" in taken.output
    assert run(operator, "load", "sql", str(operator.root / "sql"), "--replace").exit_code == 0
    assert run(operator, "unload", "sql", "--timeout", "1").output == "sql is unloaded.\n"
    gone = run(operator, "unload", "sql")
    assert gone.exit_code == 1 and gone.output.count("\n") == 1


def test_json_is_what_the_server_answered(operator: Operator):
    entries = json.loads(run(operator, "list", "--json").output)["data"]
    assert {entry["name"] for entry in entries} == set(operator.names())


def test_uploads_a_folder_or_an_archive(operator: Operator, tmp_path: Path):
    import shutil

    archive = shutil.make_archive(str(tmp_path / "sql"), "gztar", operator.root / "sql")
    for source in (str(operator.root / "sql"), archive):
        sent = run(operator, "load", "sent", "--upload", source, "--replace", "--intent", "code")
        assert sent.exit_code == 0, sent.output
        assert (operator.get("sent")["source"], operator.get("sent")["intent"]) == ("upload", "code")
    assert run(operator, "unload", "sent", "--force").exit_code == 0


def test_the_catalogs_specialist_by_name_alone(operator: Operator):
    assert run(operator, "unload", "loner").exit_code == 0
    assert run(operator, "load", "loner").exit_code == 0


def test_the_key_may_come_from_the_environment(operator: Operator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYMATH_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("POLYMATH_PORT", str(operator.http.base_url.port))
    assert CliRunner().invoke(app, ["adapters", "list"]).exit_code == 0


@pytest.mark.parametrize(
    ("key", "expected"),
    [(None, "POLYMATH_ADMIN_KEY"), ("wrong", "Incorrect API key provided. The key is read from --key")],
)
def test_a_missing_or_wrong_key(operator: Operator, key: str | None, expected: str):
    result = run(operator, "list", key=key)
    assert result.exit_code == 1 and expected in result.output and result.output.count("\n") == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[", "http://nobody.invalid"])
def test_no_server_there(url: str):
    result = CliRunner().invoke(app, ["adapters", "list", "--url", url, "--key", "x"])
    assert result.exit_code == 1 and result.output.startswith("polymath: cannot reach")
    assert result.output.count("\n") == 1


def test_something_else_there(tmp_path: Path, operator: Operator):
    url = f"{operator.http.base_url}/v1/nowhere"
    result = CliRunner().invoke(app, ["adapters", "list", "--url", url, "--key", "x"])
    assert result.exit_code == 1 and result.output.count("\n") == 1


def test_words_that_contradict(operator: Operator, tmp_path: Path):
    result = run(operator, "load", "x", "/path", "--upload", str(tmp_path))
    assert result.exit_code == 2 and "not both" in result.output
    missing = run(operator, "load", "x", "--upload", str(tmp_path / "absent"))
    assert missing.exit_code == 1 and "cannot read" in missing.output


def test_help_is_there():
    for command in ("list", "load", "unload", "pin", "unpin"):
        assert CliRunner().invoke(app, ["adapters", command, "--help"]).exit_code == 0
