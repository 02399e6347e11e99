"""Text while tokens arrive: whole characters only, and together what decoding at once gives."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialists.engine.detokenizer import IncrementalDetokenizer
from specialists.tokenizer import ChatTokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_qwen2: Path) -> ChatTokenizer:
    return ChatTokenizer.from_folder(tiny_qwen2)


def pieces(tokenizer: ChatTokenizer, token_ids: list[int]) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer.backend)
    return [*(detokenizer.feed(token_id) for token_id in token_ids), detokenizer.flush()]


def test_never_splits_a_character(tokenizer: ChatTokenizer):
    text = "¿Qué tal? 😀👨‍👩‍👧 你好 ñandú"
    parts = pieces(tokenizer, tokenizer.encode(text))
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)


def test_unfinished_character_appears_at_the_end_only(tokenizer: ChatTokenizer):
    token_ids = tokenizer.encode("hi 😀")[:-1]
    parts = pieces(tokenizer, token_ids)
    assert "".join(parts) == tokenizer.backend.decode(token_ids)
    assert "\ufffd" not in "".join(parts[:-1])


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_comes_back(tokenizer: ChatTokenizer, text: str):
    assert "".join(pieces(tokenizer, tokenizer.encode(text))) == tokenizer.backend.decode(
        tokenizer.encode(text)
    )


@settings(max_examples=300, deadline=None)
@given(token_ids=st.lists(st.integers(0, 380), max_size=30))
def test_any_tokens_give_what_decoding_at_once_gives(tokenizer: ChatTokenizer, token_ids: list[int]):
    assert "".join(pieces(tokenizer, token_ids)) == tokenizer.backend.decode(token_ids)
