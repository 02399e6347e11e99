"""Bounded, head and tail both read, specials safe."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import DelegatorError
from router.tokenizing import PromptTokenizer, read_json_object


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> PromptTokenizer:
    return PromptTokenizer.from_folder(tiny_encoder, max_tokens=24)


def _id(tokenizer: PromptTokenizer, word: str) -> int:
    return tokenizer.encode(word).ids[1]


def test_a_short_text_is_whole(tokenizer: PromptTokenizer):
    encoded = tokenizer.encode("what is the sum")
    assert len(encoded.ids) == 6
    assert set(encoded.segments) == {0}


def test_head_and_tail_of_a_long_text_are_read(tokenizer: PromptTokenizer):
    head = tokenizer.encode("poem " + "of " * 500 + "sum")
    assert len(head.ids) == 24
    assert _id(tokenizer, "poem") in head.ids and _id(tokenizer, "sum") in head.ids
    middle = tokenizer.encode("of " * 250 + "poem " + "of " * 250)
    assert _id(tokenizer, "poem") not in middle.ids


def test_history_is_another_segment_and_leaves_room(tokenizer: PromptTokenizer):
    encoded = tokenizer.encode("the sum " * 40, history="a poem " * 40)
    assert len(encoded.ids) == 24
    assert encoded.segments == tuple(sorted(encoded.segments))
    assert encoded.segments.count(1) > encoded.segments.count(0)


def test_a_written_separator_is_text(tokenizer: PromptTokenizer):
    separator = tokenizer.encode("a").ids[-1]
    assert tokenizer.encode("[SEP] [CLS]").ids.count(separator) == 1


@given(st.text(alphabet=st.characters(), max_size=400), st.text(max_size=50))
def test_any_text_is_bounded(tiny_encoder: Path, text: str, history: str):
    encoded = PromptTokenizer.from_folder(tiny_encoder, max_tokens=24).encode(text, history)
    assert 2 <= len(encoded.ids) <= 24
    assert len(encoded.ids) == len(encoded.segments)


def test_lone_surrogates_are_survived(tokenizer: PromptTokenizer):
    assert tokenizer.encode("a \ud800 b").ids


def test_too_few_tokens_are_refused(tiny_encoder: Path):
    with pytest.raises(ValueError, match="max_tokens"):
        PromptTokenizer.from_folder(tiny_encoder, max_tokens=4)


def test_bad_tokenizer_files_are_named(tmp_path: Path):
    with pytest.raises(DelegatorError, match=r"tokenizer\.json"):
        PromptTokenizer.from_folder(tmp_path, 24)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DelegatorError, match=r"tokenizer\.json"):
        PromptTokenizer.from_folder(tmp_path, 24)


def test_a_tokenizer_that_is_not_bert_is_refused(tmp_path: Path, tiny_encoder: Path):
    content = json.loads((tiny_encoder / "tokenizer.json").read_text())
    content["added_tokens"] = []
    content["model"]["vocab"] = {"[UNK]": 0, "a": 1}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(DelegatorError, match=r"\[CLS\]"):
        PromptTokenizer.from_folder(tmp_path, 24)


@pytest.mark.parametrize("content", ["[1]", "nope"])
def test_json_that_is_no_object_is_named(tmp_path: Path, content: str):
    path = tmp_path / "router.json"
    path.write_text(content)
    with pytest.raises(DelegatorError, match=r"router\.json"):
        read_json_object(path)
