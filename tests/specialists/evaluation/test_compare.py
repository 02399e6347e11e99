"""Subjects stand beside each other on the items that all of them answered."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from specialists.evaluation.compare import compare, main, read_measured, render


def write(folder: Path, label: str, task: str, credits: dict[str, float | bool]) -> None:
    rows: list[dict[str, object]] = [{"settings": {"task": task}}]
    for key, value in credits.items():
        is_credit = not isinstance(value, bool)
        grade = {"correct": value is True, "well_formed": True, "credit": value if is_credit else None}
        rows.append({"id": key, "grade": grade})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{label}_{task}.answers.jsonl").write_text(text)


def credits(reports: Path, task: str) -> Mapping[str, float]:
    measured = read_measured(reports, "specialist", task)
    assert measured is not None
    return measured.credits


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    write(tmp_path, "base", "gsm8k", {"a": False, "b": True, "c": True, "only here": False})
    write(tmp_path, "math", "gsm8k", {"a": True, "b": True, "c": True})
    write(tmp_path, "ensemble", "gsm8k", {"c": True, "b": False, "a": True})
    write(tmp_path, "base", "tatqa", {"x": 0.0, "y": 0.5})
    write(tmp_path, "finance", "tatqa", {"x": 1.0, "y": 0.5})
    write(tmp_path, "ensemble", "tatqa", {"x": 1.0, "y": 0.5})
    write(tmp_path, "base", "triviaqa", {"q": True})
    return tmp_path


def test_the_specialist_of_a_task_is_that_of_its_domain(reports: Path):
    found = compare(reports, ["base", "specialist", "ensemble"], ["gsm8k", "tatqa", "triviaqa"])
    assert list(found["tasks"]) == ["gsm8k", "tatqa"]  # not everybody answered triviaqa
    assert found["tasks"]["gsm8k"]["items"] == 3
    assert found["tasks"]["gsm8k"]["specialist"] == 1.0
    assert found["tasks"]["tatqa"] | {"base": 0.25, "specialist": 0.75} == found["tasks"]["tatqa"]
    assert found["mean_over_domains"]["specialist"] == pytest.approx((1.0 + 0.75) / 2)
    assert found["tasks"]["gsm8k"]["ensemble_minus_base"][0] == pytest.approx(0.0)


def test_the_comparison_names_where_its_reports_come_from(reports: Path):
    for label, commit in (("base", "b1"), ("math", "a1"), ("ensemble", "b1")):
        report = {"machine": "M", "commit": commit, "seed": 20, "num_items": 0}
        (reports / f"{label}_gsm8k.json").write_text(json.dumps(report))
    found = compare(reports, ["base", "specialist", "ensemble"], ["gsm8k"])
    assert (found["machines"], found["commits"], found["seeds"]) == (["M"], ["a1", "b1"], [20])


def test_a_report_that_was_graded_anew_counts(reports: Path):
    report = {"machine": "M", "commit": "c", "seed": 20, "num_items": 3, "correct": ["b"]}
    (reports / "math_gsm8k.json").write_text(json.dumps(report))
    assert credits(reports, "gsm8k") == {"a": 0.0, "b": 1.0, "c": 0.0}
    (reports / "math_gsm8k.json").write_text(json.dumps({**report, "num_items": 2}))
    assert credits(reports, "gsm8k") == {"a": 1.0, "b": 1.0, "c": 1.0}
    scored = {**report, "num_items": 2, "scores": {"x": 0.25, "y": 0.75}}
    (reports / "finance_tatqa.json").write_text(json.dumps(scored))
    assert credits(reports, "tatqa") == {"x": 0.25, "y": 0.75}


def test_a_line_cut_by_a_kill_is_passed_over_and_a_broken_one_is_named(
    reports: Path, capsys: pytest.CaptureFixture[str]
):
    path = reports / "math_gsm8k.answers.jsonl"
    whole = path.read_text()
    path.write_text(f'{whole}{{"id": "d", "gra')
    assert list(credits(reports, "gsm8k")) == ["a", "b", "c"]
    path.write_text(f"{whole}broken\n")
    assert main([str(reports)]) == 1
    assert f"{path} is damaged" in capsys.readouterr().err


def test_answers_cut_at_different_lengths_do_not_compare(reports: Path):
    path = reports / "math_gsm8k.answers.jsonl"
    path.write_text(path.read_text().replace('{"task": "gsm8k"}', '{"task": "gsm8k", "max_new_tokens": 9}'))
    with pytest.raises(ValueError, match="gsm8k was answered with different max_new_tokens"):
        compare(reports, ["base", "specialist"], ["gsm8k"])


def test_the_table_and_the_file(reports: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(reports)]) == 0
    out = capsys.readouterr().out
    assert "| `tatqa` | 2 | 25.0 | 75.0 | 75.0 |" in out
    assert out == render(json.loads((reports / "comparison.json").read_text())) + "\n"


def test_a_line_for_each_subject_at_its_precision(reports: Path, capsys: pytest.CaptureFixture[str]):
    write(reports, "base-int8", "gsm8k", {"a": True, "b": False})
    write(reports, "math-int8", "gsm8k", {"a": True, "b": True})
    arguments = ["--subjects", "base-int8", "specialist-int8", "--tasks", "gsm8k", "--by-subject"]
    assert main([str(reports), *arguments]) == 0
    expected = "| | `gsm8k` (2) |\n|---|---|\n| base-int8 | 50.0 |\n| specialist-int8 | 100.0 |\n"
    assert capsys.readouterr().out == expected


def test_nothing_in_common_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(tmp_path, "base", "gsm8k", {"a": True})
    write(tmp_path, "math", "gsm8k", {"b": True})
    write(tmp_path, "ensemble", "gsm8k", {"a": True})
    assert main([str(tmp_path)]) == 1
    assert "no task on which all of base, specialist, ensemble answered" in capsys.readouterr().err
