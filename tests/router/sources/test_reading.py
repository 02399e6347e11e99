"""Files are read gzipped or not; what is wrong with one is said with its name."""

import gzip
from pathlib import Path

import pytest

from router.sources.reading import (
    SourceFileError,
    read_csv,
    read_json,
    read_json_lines,
    split_numbered_options,
    strip_label,
)


def test_lines_and_gzip(tmp_path: Path):
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    content = '{"q": "one\u2028line"}\n\n{"q": "é"}\n'
    plain.write_text(content, encoding="utf-8")
    packed.write_bytes(gzip.compress(content.encode()))
    assert (
        list(read_json_lines(plain)) == list(read_json_lines(packed)) == [{"q": "one\u2028line"}, {"q": "é"}]
    )


def test_csv_fields_may_hold_line_breaks(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text('"Q: x\nA:",up\n', encoding="utf-8")
    assert list(read_csv(path)) == [["Q: x\nA:", "up"]]


@pytest.mark.parametrize("content", [None, b"\xff", b"{"])
def test_a_bad_file_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceFileError, match=r"bad\.json"):
        read_json(path)


def test_a_bad_line_and_bad_gzip_are_named(tmp_path: Path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"a": 1}\nnope\n')
    with pytest.raises(SourceFileError, match=r"bad\.jsonl line 2"):
        list(read_json_lines(path))
    packed = tmp_path / "bad.json.gz"
    packed.write_bytes(b"not gzip")
    with pytest.raises(SourceFileError, match=r"bad\.json\.gz"):
        read_json(packed)


def test_numbered_options_are_taken_apart():
    text = "Please choose: Why?\n\nAnswer1: a Answer2: b c\n\nAnswer format: answer1/answer2"
    assert split_numbered_options(text) == ("Please choose: Why?", ("a", "b c"))


@pytest.mark.parametrize(
    ("option", "expected"),
    [("A)100 m", "100 m"), ("b . 7", "7"), ("C. c ) 8", "c ) 8"), ("(D) x", "x"), ("bread", "bread")],
)
def test_strip_label(option: str, expected: str):
    assert strip_label(option) == expected
