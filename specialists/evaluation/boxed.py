r"""What stands in the boxes of an answer: `\boxed{...}`, braces within it included."""

import re

_OPENING = re.compile(r"\\boxed\s*\{")


def find_boxed(text: str) -> list[str]:
    """The contents of all closed boxes that hold something, in order."""
    found = (_read_until_closed(text, match.end()) for match in _OPENING.finditer(text))
    return [content.strip() for content in found if content and content.strip()]


def _read_until_closed(text: str, start: int) -> str | None:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return None
