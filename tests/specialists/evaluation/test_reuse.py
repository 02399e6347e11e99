"""Recorded answers: found for the same model, adapter, prompt and limit, and for nothing else."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialists.engine.sampling_params import SamplingParams
from specialists.evaluation.answer import prompt_digest
from specialists.evaluation.append_log import AppendLogError
from specialists.evaluation.generation import Generation, GenerationRequest
from specialists.evaluation.reuse import RecordedAnswers, ReusingGenerator

SETTINGS = {
    "model": "m",
    "quantization": "none",
    "adapter": "math",
    "fingerprint": "f",
    "max_new_tokens": 8,
}


def request(text: str, max_tokens: int = 8) -> GenerationRequest:
    return GenerationRequest(text, [{"role": "user", "content": text}], SamplingParams(max_tokens=max_tokens))


def write_log(folder: Path, *texts: str, **changes: Any) -> None:
    rows: list[dict[str, Any]] = [{"settings": {**SETTINGS, **changes}}]
    rows += [
        {"prompt_sha256": prompt_digest(request(text).messages), "text": f"old {text}"}
        | {"num_tokens": 2, "is_cut": False}
        for text in texts
    ]
    path = folder / f"log{len(list(folder.iterdir()))}.answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(folder: Path) -> RecordedAnswers:
    return RecordedAnswers.read(folder, "m", "none", {"base": "", "math": "f"})


@pytest.mark.parametrize(
    "other", [{"model": "n"}, {"quantization": "int8"}, {"fingerprint": "g"}, {"adapter": "code"}]
)
def test_logs_of_another_subject_are_passed_over(tmp_path: Path, other: dict[str, Any]):
    write_log(tmp_path, "a", **other)
    assert len(read(tmp_path)) == 0


def test_name_prompt_and_limit_must_be_the_same(tmp_path: Path):
    write_log(tmp_path, "a", "b")
    write_log(tmp_path, "a", adapter=None, fingerprint="")
    recorded = read(tmp_path)
    assert len(recorded) == 3
    found = recorded.find("math", request("b"))
    assert found == Generation(
        key="b", text="old b", num_tokens=2, is_cut=False, specialist="math", is_reused=True
    )
    assert recorded.find("base", request("a")) is not None
    assert recorded.find("base", request("b")) is None
    assert recorded.find("math", request("b", 9)) is None
    assert recorded.find("math", request("c")) is None


def test_a_damaged_log_is_named(tmp_path: Path):
    write_log(tmp_path, "a", "b")
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"text": "old a"', '"text": "ol'))
    with pytest.raises(
        AppendLogError, match=r"log0\.answers\.jsonl is damaged or no log: .*; remove it or its broken line"
    ):
        read(tmp_path)


def test_a_line_that_a_kill_cut_off_is_passed_over(tmp_path: Path):
    write_log(tmp_path, "a", "b")
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text()[:-9])
    assert len(read(tmp_path)) == 1
    path.write_text("")
    assert len(read(tmp_path)) == 0


@given(st.lists(st.booleans(), max_size=20), st.integers(1, 5))
def test_every_request_is_answered_once(known: list[bool], ahead: int):
    requests = [request(str(number)) for number in range(len(known))]
    recorded = RecordedAnswers(
        {
            ("base", prompt_digest(one.messages), 8): {"text": "old", "num_tokens": 1, "is_cut": False}
            for one, is_known in zip(requests, known, strict=True)
            if is_known
        }
    )

    def generate(asked: Iterable[GenerationRequest]) -> Iterator[Generation]:
        """Reads a few requests ahead and answers the last one first, as a batch may."""
        waiting: list[GenerationRequest] = []
        for one in asked:
            waiting.append(one)
            if len(waiting) == ahead:
                yield Generation(key=waiting.pop().key, text="new", num_tokens=1, is_cut=False)
        while waiting:
            yield Generation(key=waiting.pop().key, text="new", num_tokens=1, is_cut=False)

    answers = list(ReusingGenerator(generate, recorded, lambda messages: "base")(iter(requests)))
    assert sorted(answer.key for answer in answers) == sorted(one.key for one in requests)
    for answer in answers:
        assert answer.is_reused == known[int(answer.key)] == (answer.text == "old")
