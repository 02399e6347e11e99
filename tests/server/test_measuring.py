"""`polymath evaluate` on a tiny random base: who answers, what is written, what is refused before anything is loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from server.cli import app
from server.lifecycle import Lifecycle
from server.measuring import MeasuringError, Plan, measure, open_ensemble, open_specialist
from server.settings import Settings, SettingsError
from specialists.evaluation.append_log import AppendLogError
from specialists.evaluation.task import TaskDataError
from tests.server.fakes import KeywordDelegator
from tests.server.tiny import load_predictable, running, tiny_settings, write_adapter

runner = CliRunner()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measuring")


@pytest.fixture(scope="module")
def settings(root: Path, tiny_qwen2: Path) -> Settings:
    data = root / "data"
    (data / "gsm8k").mkdir(parents=True)
    rows = [{"question": f"What is {n} times {n}?", "answer": f"{n}\n#### {n * n}"} for n in range(6)]
    (data / "gsm8k/test_first660.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "socialiqa").mkdir()
    row = {
        "context": "Ann left.",
        "question": "How?",
        "answerA": "a",
        "answerB": "b",
        "answerC": "c",
        "correct": "C",
    }
    (data / "socialiqa/dev_even.jsonl").write_text((json.dumps(row) + "\n") * 5)
    return tiny_settings(root, tiny_qwen2, data=data)


def plan(out: Path, *tasks: str, **changes: Any) -> Plan:
    fields = {"split": "test", "limit": None, "seed": 20, "stress": False, "max_new_tokens": 3, **changes}
    return Plan(tasks=tasks, out=out, **fields)


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_a_specialist_and_the_base(settings: Settings, tmp_path: Path):
    (report,) = measure(settings, plan(tmp_path, "gsm8k"), open_specialist(settings, "math", None))
    (base,) = measure(settings, plan(tmp_path, "gsm8k", limit=4), open_specialist(settings, "base", None))
    assert (report.adapter, report.num_items, report.num_tokens) == ("math", 6, 18)
    assert (base.adapter, base.num_items, base.model) == (None, 4, report.model)
    written = [path.name for path in sorted(tmp_path.glob("*.json"))]
    assert len(written) == 2 and written[0].startswith("base@") and written[1].startswith("math@")
    texts = {answer.id: answer.text for answer in report.answers}
    assert any(texts[answer.id] != answer.text for answer in base.answers)


def test_an_ended_run_goes_on_and_other_weights_do_not(settings: Settings, tmp_path: Path, tiny_qwen2: Path):
    folder = write_adapter(tmp_path / "mine", tiny_qwen2, intent="math", seed=5)
    measured = open_specialist(settings, str(folder), None)
    measure(settings, plan(tmp_path, "gsm8k", limit=2), measured)
    (log,) = tmp_path.glob("*.answers.jsonl")
    before = log.read_text().splitlines()
    assert len(before) == 3
    measure(settings, plan(tmp_path, "gsm8k"), measured)
    after = log.read_text().splitlines()
    assert after[:3] == before and len(after) == 7
    write_adapter(tmp_path / "other/mine", tiny_qwen2, intent="math", seed=6)
    with pytest.raises(AppendLogError, match="fingerprint was"):
        measure(
            settings, plan(tmp_path, "gsm8k"), open_specialist(settings, str(tmp_path / "other/mine"), None)
        )


def test_a_subject_is_known_by_what_it_computes(settings: Settings, tmp_path: Path, tiny_qwen2: Path):
    def fingerprint(folder: Path, base: Path = tiny_qwen2) -> str:
        found = settings.model_copy(update={"base": str(base)})
        return open_specialist(found, str(folder), None).subject.fingerprint

    folder = write_adapter(tmp_path / "mine", tiny_qwen2, intent="math", seed=5)
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert fingerprint(moved) == fingerprint(folder)
    other_base = shutil.copytree(tiny_qwen2, tmp_path / "base")
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": config["lora_alpha"] * 2}))
    assert len({fingerprint(folder), fingerprint(moved), fingerprint(folder, other_base)}) == 3


def test_the_ensemble_asks_the_one_that_the_delegator_names(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.measuring.load_delegator", lambda settings: KeywordDelegator())
    ensemble = open_ensemble(settings, None)
    math, social = measure(settings, plan(tmp_path, "gsm8k", "socialiqa"), ensemble)
    assert math.analysis["specialists"] == {"math": 6}  # each holds the word "times"
    assert social.analysis["specialists"] == {"base": 5}
    (alone,) = measure(settings, plan(tmp_path, "gsm8k"), open_specialist(settings, "math", None))
    assert [answer.text for answer in math.answers] == [answer.text for answer in alone.answers]


def test_the_ensemble_takes_answers_that_are_there(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.measuring.load_delegator", lambda settings: KeywordDelegator())
    (alone,) = measure(settings, plan(tmp_path, "gsm8k", limit=4), open_specialist(settings, "math", None))
    asked = open_ensemble(settings, None)
    reusing = open_ensemble(settings, None, tmp_path)
    first, second = measure(settings, plan(tmp_path, "gsm8k", "socialiqa"), reusing)
    assert (first.num_reused, second.num_reused) == (
        4,
        0,
    )  # two of six were not asked of math, and the base never was
    anew = measure(settings, plan(tmp_path / "anew", "gsm8k", "socialiqa"), asked)
    assert [report.num_reused for report in anew] == [0, 0]
    for one, other in zip((first, second), anew, strict=True):
        assert [answer.text for answer in one.answers] == [answer.text for answer in other.answers]
    assert first.analysis["specialists"] == {"math": 6}
    (base,) = measure(settings, plan(tmp_path, "socialiqa"), open_specialist(settings, "base", None))
    assert (alone.num_reused, base.num_reused) == (0, 0)


def test_another_delegator_is_another_ensemble(settings: Settings, tmp_path: Path):
    (tmp_path / "router.json").write_text("{}")
    fingerprints = {
        open_ensemble(settings.model_copy(update=changes), None).subject.fingerprint
        for changes in ({}, {"router_weights": tmp_path}, {"router_threshold": 0.9})
    }
    assert len(fingerprints) == 3


def test_a_server_is_measured_as_its_own_engine_is(settings: Settings, tmp_path: Path):
    with running(Lifecycle(settings, load=load_predictable)) as url:
        (report,) = measure(settings, plan(tmp_path, "gsm8k"), open_ensemble(settings, url))
        (base,) = measure(settings, plan(tmp_path, "gsm8k"), open_specialist(settings, "base", url))
    assert report.analysis["specialists"] == {"math": 6}
    (alone,) = measure(settings, plan(tmp_path, "gsm8k"), open_specialist(settings, "math", None))
    assert [answer.text for answer in report.answers] == [answer.text for answer in alone.answers]
    assert base.analysis["specialists"] == {"base": 6}


def test_the_stress_test_writes_every_drop(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (report,) = measure(
        settings, plan(tmp_path, "socialiqa", stress=True), open_specialist(settings, "math", None)
    )
    (path,) = tmp_path.glob("*.stress.json")
    drops = read(path)
    assert drops["plain"] == report.score
    assert set(drops) - {"task", "plain"} == {
        "option_order",
        "option_length",
        "more_options",
        "question_form",
        "aside",
    }
    assert len(list(tmp_path.glob("*_socialiqa.*.answers.jsonl"))) == 5
    assert "option_order: " in capsys.readouterr().out


def test_the_domain_is_what_a_specialist_is_measured_on_by_default(settings: Settings, tmp_path: Path):
    with pytest.raises(TaskDataError, match="math500_even"):  # gsm8k is there, the next of its domain is not
        measure(settings, plan(tmp_path), open_specialist(settings, "math", None))
    with pytest.raises(TaskDataError, match=r"math500_even|humaneval"):
        measure(settings, plan(tmp_path, "all"), open_specialist(settings, "code", None))


def test_what_cannot_be_measured_is_said_at_once(settings: Settings, tmp_path: Path):
    with pytest.raises(MeasuringError, match=r"no specialist 'poet'.*there are base, code, loner, math"):
        open_specialist(settings, "poet", None)
    base = open_specialist(settings, "base", None)
    with pytest.raises(TaskDataError, match="no task 'sudoku'"):
        measure(settings, plan(tmp_path, "sudoku"), base)
    with pytest.raises(MeasuringError, match="no split 'dev'; there are train, val, test"):
        measure(settings, plan(tmp_path, "gsm8k", split="dev"), base)
    with pytest.raises(SettingsError, match="--data"):
        measure(settings.model_copy(update={"data": None}), plan(tmp_path, "gsm8k"), base)


@pytest.mark.parametrize("command", ["specialist", "ensemble"])
def test_help_has_examples(command: str):
    result = runner.invoke(app, ["evaluate", command, "--help"])
    assert result.exit_code == 0
    assert f"polymath evaluate {command}" in result.output


def test_the_command_measures(settings: Settings, tmp_path: Path, root: Path):
    config = tmp_path / "polymath.toml"
    limits = "\n".join(
        f"{name} = {json.dumps(getattr(settings, name))}"
        for name in ("dtype", "max_num_seqs", "block_size", "num_blocks", "max_model_len", "threads")
    )
    config.write_text(f'base = "{settings.base}"\ncatalog = "{settings.catalog}"\n{limits}\n')
    arguments = ["--data", str(settings.data), "--out", str(tmp_path), "--config", str(config)]
    done = runner.invoke(app, ["evaluate", "specialist", "math", "--task", "gsm8k", "--limit", "2",
                               "--max-new-tokens", "2", *arguments])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "gsm8k/test  math: accuracy" in done.stdout
    failed = runner.invoke(app, ["evaluate", "specialist", "poet", *arguments])
    assert failed.exit_code == 1
    assert failed.stderr.startswith("polymath: no specialist 'poet'")
