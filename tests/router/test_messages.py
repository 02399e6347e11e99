"""Which text of a conversation is classified."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.messages import Utterance, last_utterance, message_text

USER, BOT = "user", "assistant"


def _message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], None),
        ([_message("system", "You are a mathematician.")], None),
        ([_message(USER, "")], None),
        ([_message(USER, " \n\t")], None),
        ([_message(USER, "\x00\x07\x1b")], None),
        ([_message(USER, None)], None),
        ([{"role": USER}], None),
        ([_message(USER, [{"type": "image_url", "image_url": {"url": "x"}}])], None),
        ([_message("tool", "42")], None),
        ([_message(USER, "2+2?")], Utterance("2+2?", "")),
        ([_message("system", "s"), _message(USER, "2+2?"), _message(BOT, "4")], Utterance("2+2?", "")),
        (
            [
                _message(USER, "first"),
                _message(BOT, "a"),
                _message(USER, "second"),
                _message(BOT, "b"),
                _message(USER, "3rd"),
            ],
            Utterance("3rd", "second"),
        ),
        ([_message(USER, "text"), _message(USER, [{"type": "image_url"}])], Utterance("text", "")),
        ([_message("poet", "who?"), _message(USER, "me")], Utterance("me", "")),
    ],
)
def test_last_utterance(messages: list[dict[str, Any]], expected: Utterance | None):
    assert last_utterance(messages) == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "text", "text": 5}, "loose", None], ""),
        (5, ""),
        (b"bytes", ""),
        ({"type": "text", "text": "not a list"}, ""),
    ],
)
def test_message_text(content: Any, text: str):
    assert message_text(content) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.floats(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_any_content_is_survived(content: Any):
    assert isinstance(message_text(content), str)
