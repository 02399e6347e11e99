"""Answers that end with a line `Answer: ...`: reading it, and giving an answer that ending."""

import re
from dataclasses import dataclass

from specialists.evaluation.boxed import find_boxed

MARK = "Answer:"

_MARKED = re.compile(
    r"^\W*(?:the\s+)?(?:final\s+|correct\s+)?answer\W*?(?::|\bis\b)[\s*:]*(.*?)[*\s]*$",
    re.IGNORECASE | re.MULTILINE,
)
_WITHIN = re.compile(r"\banswer\s+is:?\s+(.+)", re.IGNORECASE)
_LATEX = re.compile(r"\\text\s*\{([^{}]*)\}|\\([$%])|\\[()\[\]]")
_SHORT = 4  # words: a number with its unit, whose full stop is not part of it


@dataclass(frozen=True, slots=True)
class LastLine:
    """What an answer states; `is_marked` when its last line is of the asked form."""

    answer: str
    is_marked: bool


def read_last_line(text: str) -> LastLine:
    """The last marked line, else what is boxed or follows "answer is", else the last line that is not empty."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return LastLine("", False)
    is_marked = lines[-1].startswith(MARK) and bool(lines[-1].removeprefix(MARK).strip())
    for stated in (_MARKED.findall(text), find_boxed(text), _WITHIN.findall(text)):
        said = [answer.strip() for answer in stated if answer.strip()]
        if said:
            return LastLine(_clean(said[-1]), is_marked)
    return LastLine(_clean(lines[-1]), is_marked)


def _clean(answer: str) -> str:
    answer = _LATEX.sub(lambda match: match[1] or match[2] or "", answer).strip(" *`")
    if len(answer.split()) <= _SHORT:
        answer = answer.removesuffix(".").strip()
    is_formula = len(answer) > 1 and answer[0] == answer[-1] == "$"
    return answer[1:-1].strip() if is_formula else answer


def rewrite_last_line(text: str, answer: str) -> str:
    """The answer's own calculation, ending with the one line that states `answer`."""
    body = _MARKED.split(text.strip(), maxsplit=1)[0].rstrip()
    return f"{body}\n{MARK} {answer}" if body else f"{MARK} {answer}"
