"""What a question asks for, by its first question word: a rough category for the error analysis."""

import re

_KINDS = re.compile(r"\b(who|whose|whom|what|which|where|when|why|how many|how much|how)\b", re.IGNORECASE)


def question_kind(question: str) -> str:
    """`who`, `what`, `how many`, ...; "other" when there is no question word."""
    match = _KINDS.search(question)
    return match[1].lower() if match else "other"
