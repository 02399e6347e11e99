"""A file of prompts: every line that can be read, and the one that cannot, by its number."""

from pathlib import Path

import pytest

from server.errors import InvalidRequestError
from server.route import read_prompts


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_forms_of_a_line(tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(
        b'"hi"\n{"text": "a"}\r\n\n{"prompt": "b", "id": 7}\n'
        b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "c"}]}]}\n{"text": ""}\n'
        + '"línea"'.encode()
    )
    expected = [(1, "hi"), (2, "a"), (4, "b"), (5, "c"), (6, ""), (7, "línea")]
    assert read_prompts(path) == [(number, _user(text)) for number, text in expected]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'"caf\xe9"', "is not UTF-8 at byte 5"),
        (b"hello", "is not JSON"),
        (b"17", "holds a int"),
        (b"[]", "holds a list"),
        (b"{}", "none of text, prompt and messages"),
        (b'{"text": 3}', "its text is not a string"),
        (b'{"messages": []}', "messages: "),
        (b'{"messages": [{"role": "wizard", "content": "x"}]}', "messages.0.role: "),
        (b"[" * 100_000, "nested too deeply|not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, problem: str):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'"fine"\n\n' + line + b"\n")
    with pytest.raises(InvalidRequestError, match=rf"prompts\.jsonl line 3: .*({problem})"):
        read_prompts(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InvalidRequestError, match=r"cannot read .*none\.jsonl: No such file"):
        read_prompts(tmp_path / "none.jsonl")


def test_an_empty_file_is_no_prompts(tmp_path: Path):
    (tmp_path / "empty.jsonl").write_bytes(b"\n \n")
    assert read_prompts(tmp_path / "empty.jsonl") == []
