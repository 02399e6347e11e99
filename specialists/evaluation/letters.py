"""The letter in an answer to a multiple-choice question, however the model put it. English and Spanish.

By preference: what is boxed or follows "answer is"; a letter that opens the answer; a letter alone on the last
line; the only option that is mentioned by its letter; the only option whose text occurs. Two letters at once
("A or B"), an echo of the whole list, or nothing of the kind is no answer.
"""

import re
from collections.abc import Sequence

from specialists.evaluation.boxed import find_boxed

LETTERS = "ABCDEFGHIJ"

_MARKUP = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\b|[*_`$\"“”«»{}\\]")
_NEGATED = re.compile(
    r"\b(?:not|isn't|no\s+es)\s+(?:(?:the|la|option|opción|answer|respuesta)\s+)*\(?[A-J]\b\)?", re.IGNORECASE
)
_LINKING = (
    r"(?:(?:option|opci[oó]n|choice|letter|letra|correcta?|right|best|final|is|es|ser[ií]a|would\s+be|should\s+be|"
    r"must\s+be|the|la|el|one)\b\s*|[:=>-]\s*)*"
)
_STATED = re.compile(
    rf"\b(?:answer|respuesta|soluci[oó]n|solution)\b\s*{_LINKING}[(\[]?([A-Ja-j])\b", re.IGNORECASE
)
_NAMED = re.compile(
    rf"\b(?:option|opci[oó]n|choice|letter|letra)\b\s*{_LINKING}[(\[]?([A-J])\b", re.IGNORECASE
)
_OPENING = re.compile(r"\W*([A-Ja-j])\b")
_LISTED = re.compile(r"^\W*([A-J])\s*[).:]", re.MULTILINE)
_MENTIONED = re.compile(r"(?<![\w'])(?:\(([A-J])\)|([A-J])(?=[).:,;]|$)|([B-J])\b(?!'))", re.MULTILINE)
# What may follow a letter that is meant as one: "A" before any other word is an article.
_END = re.compile(
    r"\s*(?:$|[).:,;\]!\n-]|[\u2013\u2014]|(?:is|es|because|porque|since|ya|pues|and|y|or|o)\b)"
)
_SECOND = re.compile(
    r"[)\].]?\s*(?:,|/|&|\band\b|\bor\b|\by\b|\bo\b)\s*(?:option\s*|opción\s*)?[(\[]?([A-J])\b(?!\s+(?:is|es)\b)"
)


def read_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option an answer chooses, `A` being the first; None when it chooses none, or several."""
    letters = LETTERS[: len(options)]
    boxed = find_boxed(text)
    if boxed:
        found = _read(_clean(boxed[-1]), letters)
        if found:
            return found
    cleaned = _clean(text)
    return _read(cleaned, letters) or _match_text(text, options)


def _clean(text: str) -> str:
    return _NEGATED.sub(" ", _MARKUP.sub("", text)).strip()


def _read(text: str, letters: str) -> str | None:
    for match in reversed(list(_STATED.finditer(text))):
        if _is_meant(text, match, letters):
            return _only(text, match, letters)
    opening = _OPENING.match(text)
    if opening and _is_meant(text, opening, letters) and not _echoes(text, letters):
        return _only(text, opening, letters)
    last_line = text.rsplit("\n", 1)[-1]
    alone = _OPENING.match(last_line)
    if alone and alone.end() >= len(last_line.rstrip(" .)]")) and alone[1] in letters:
        return alone[1]
    for pattern in (_NAMED, _MENTIONED):
        named = {"".join(filter(None, match.groups())).upper() for match in pattern.finditer(text)} & set(
            letters
        )
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def _is_meant(text: str, match: re.Match[str], letters: str) -> bool:
    """Whether the matched letter is an option's and not a word: "A bank", "a bank", "I think"."""
    letter, rest = match[1], text[match.end() :]
    if letter.upper() not in letters:
        return False
    if letter.islower():
        return re.match(r"\s*(?:$|[).:\]])", rest) is not None
    if letter in "AI":
        return _END.match(rest) is not None
    return not rest.startswith(("'", "\u2019"))


def _only(text: str, match: re.Match[str], letters: str) -> str | None:
    second = _SECOND.match(text, match.end())
    if second and second[1] in letters and second[1] != match[1].upper():
        return None
    return match[1].upper()


def _echoes(text: str, letters: str) -> bool:
    """Whether the answer only repeats the list of options: A., B., ... from the first on."""
    listed = _LISTED.findall(text)
    return len(listed) > 1 and "".join(listed) == letters[: len(listed)]


def _match_text(text: str, options: Sequence[str]) -> str | None:
    """The option whose own words occur in the answer, when there is just one (the longer of nested ones)."""
    words = f" {_words(text)} "
    found = [option for option in options if _words(option) and f" {_words(option)} " in words]
    outer = [
        one for one in found if not any(one != other and _words(one) in _words(other) for other in found)
    ]
    return LETTERS[list(options).index(outer[0])] if len(set(outer)) == 1 else None


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
