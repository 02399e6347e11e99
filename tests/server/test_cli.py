"""The command: help at once, one-sentence errors, and routing by the serving code path."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import app
from tests.server.tiny import tiny_settings

runner = CliRunner()


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from typer.testing import CliRunner; from server.cli import app;"
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0;"
        "print([name for name in ('torch', 'transformers', 'fastapi', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", ["serve", "pull", "route", "merge", "publish", "train specialist", "train search"]
)
def test_help_has_examples(command: str):
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output and f"polymath {command}" in result.output


def test_version():
    assert runner.invoke(app, ["--version"]).output.startswith("polymath ")


def test_no_arguments_show_the_help():
    assert "serve" in runner.invoke(app, []).output


@pytest.mark.parametrize("command", [["serve"], ["pull"], ["route", "hi"]])
def test_a_bad_setting_is_one_sentence(command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("POLYMATH_PROT", "1")
    result = runner.invoke(app, command)
    assert result.exit_code == 1
    assert result.stderr == (
        "polymath: unknown environment variable POLYMATH_PROT; did you mean POLYMATH_PORT?\n"
    )
    monkeypatch.delenv("POLYMATH_PROT")
    result = runner.invoke(app, [*command, "--config", str(tmp_path / "none.toml")])
    assert result.exit_code == 1
    assert "cannot read the config file" in result.stderr


def test_pull_calls_run_pull(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    calls: list[object] = []
    monkeypatch.setattr("server.pull.run_pull", lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.setenv("POLYMATH_HOME", str(tmp_path))
    monkeypatch.setenv("POLYMATH_BASE", "teacher")
    assert runner.invoke(app, ["pull", "--quiet"]).exit_code == 0
    assert calls == [((tmp_path, "teacher", "default"), {"quiet": True, "force": False})]


def test_pull_errors_are_one_sentence(monkeypatch: pytest.MonkeyPatch):
    from specialists.base_model import SourceError

    def fail(*args: object, **kwargs: object) -> None:
        raise SourceError("the disk is full")

    monkeypatch.setattr("server.pull.run_pull", fail)
    result = runner.invoke(app, ["pull"])
    assert (result.exit_code, result.stderr) == (1, "polymath: the disk is full\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("server.pull.run_pull", fail)
    assert isinstance(runner.invoke(app, ["pull"]).exception, KeyError)


def test_route_without_an_encoder_says_pull(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("POLYMATH_HOME", str(tmp_path))
    result = runner.invoke(app, ["route", "hi"])
    assert result.exit_code == 1
    assert "polymath pull" in result.stderr


class TestRoute:
    @pytest.fixture
    def config(self, tmp_path: Path, tiny_qwen2: Path) -> Path:
        settings = tiny_settings(tmp_path, tiny_qwen2)
        path = tmp_path / "polymath.toml"
        path.write_text(
            # No base: routing must not look for one.
            f'base = "{tmp_path / "absent"}"\nencoder = "{settings.encoder}"\n'
            f'router_weights = "{settings.router_weights}"\ncatalog = "{settings.catalog}"\nrouter_threshold = 0.0\n'
        )
        return path

    def test_json(self, config: Path):
        result = runner.invoke(app, ["route", "what is the sum", "--json", "--config", str(config)])
        assert result.exit_code == 0, result.output
        decided = json.loads(result.stdout)
        assert sum(decided["scores"].values()) == pytest.approx(1)
        assert decided["intent"] == max(decided["scores"], key=decided["scores"].__getitem__)
        serving = decided["intent"] if decided["intent"] in ("math", "code") else "base"
        assert decided["specialist"] == serving
        assert set(decided) >= {"confidence", "reason", "threshold", "route_ms"}

    def test_table(self, config: Path):
        result = runner.invoke(app, ["route", "what is the sum", "--config", str(config)])
        assert result.exit_code == 0, result.output
        assert all(intent in result.stdout for intent in ("math", "code", "general", "probability"))
        assert " answers: " in result.stdout

    def test_nothing_to_route(self, config: Path):
        result = runner.invoke(app, ["route", "", "--json", "--config", str(config)])
        assert json.loads(result.stdout)["reason"] == "empty"
        assert runner.invoke(app, ["route", "", "--config", str(config)]).exit_code == 0

    def test_file(self, config: Path, tmp_path: Path):
        prompts = tmp_path / "prompts.jsonl"
        prompts.write_text('"what is the sum"\n\n{"text": ""}\n')
        result = runner.invoke(app, ["route", "--file", str(prompts), "--config", str(config)])
        assert result.exit_code == 0, result.output
        first, second = map(json.loads, result.stdout.splitlines())
        alone = json.loads(
            runner.invoke(app, ["route", "what is the sum", "--json", "--config", str(config)]).stdout
        )
        assert (first["line"], first["specialist"], first["reason"]) == (
            1,
            alone["specialist"],
            alone["reason"],
        )
        assert first["scores"] == pytest.approx(alone["scores"], abs=1e-3)
        assert (second["line"], second["reason"]) == (3, "empty")

    def test_a_bad_file_is_one_sentence(self, config: Path, tmp_path: Path):
        prompts = tmp_path / "prompts.jsonl"
        prompts.write_bytes(b'"fine"\n"\xff"\n')
        result = runner.invoke(app, ["route", "--file", str(prompts), "--config", str(config)])
        assert (result.exit_code, result.stdout) == (1, "")
        assert "prompts.jsonl line 2: is not UTF-8" in result.stderr

    @pytest.mark.parametrize("arguments", [[], ["hi", "--file", "x"]])
    def test_a_prompt_or_a_file(self, config: Path, arguments: list[str]):
        result = runner.invoke(app, ["route", *arguments, "--config", str(config)])
        assert result.exit_code == 2


@pytest.mark.parametrize("command", [["train", "router", "--out", "x"], ["evaluate", "router"]])
def test_training_and_measuring_need_data(command: list[str]):
    result = runner.invoke(app, command)
    assert result.exit_code == 1
    assert "POLYMATH_DATA" in result.stderr
