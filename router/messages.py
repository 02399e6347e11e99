"""Which text of a conversation is classified.

The user's last message, in the context of the one before it. No model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Utterance:
    """The text to classify, and the user's text before it ("" when there is none)."""

    text: str
    history: str


def last_utterance(messages: Sequence[Mapping[str, Any]]) -> Utterance | None:
    """The last user message that has text, with the one before it; None when no user message has any.

    System, assistant and tool messages are not read: programs write them, not the person to be served.
    """
    texts: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, Mapping) or message.get("role") != "user":
            continue
        if text := message_text(message.get("content")):
            texts.append(text)
        if len(texts) == 2:
            break
    if not texts:
        return None
    return Utterance(texts[0], texts[1] if len(texts) == 2 else "")


def message_text(content: Any) -> str:
    """The text of an OpenAI message's content: a string, None, or parts of which the text ones count.

    Text without a visible character counts as none.
    """
    if isinstance(content, str):
        text = content
    elif isinstance(content, Sequence):
        parts = [
            part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"
        ]
        text = "\n".join(part for part in parts if isinstance(part, str))
    else:
        text = ""
    # isprintable is False for control characters and surrogates, True for the space, which split drops.
    has_visible = any(character.isprintable() and not character.isspace() for character in text[:10_000])
    return text if has_visible or (len(text) > 10_000 and text.strip()) else ""
