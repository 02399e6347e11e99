r"""The number in an answer in words, by value.

Reading is flexible: the number after the last `####`, else in the last `\boxed{}`, else after the last
"answer is", else the last number of the text. Form is strict: the last line is `#### <number>` and nothing else.
"""

import re
from fractions import Fraction

from specialists.evaluation.boxed import find_boxed

# A sign belongs to the number only where no operand stands before it: "5-3" and "5 - 3" hold 5 and 3,
# "= -3" holds -3.
_SIGN = r"(?:(?<![\w)\].%])-(?=[$€£\d.\\]))?"
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_PLAIN = rf"(?:{_DIGITS})"
_NUMBER = re.compile(
    rf"(?P<sign>{_SIGN})[$€£]?\s?"
    rf"(?:\\d?frac\{{(?P<latex_top>{_PLAIN})\}}\{{(?P<latex_bottom>{_PLAIN})\}}"
    rf"|(?:(?P<whole>\d+)\s(?=\d+/\d))?(?P<top>{_PLAIN})(?:\s?/\s?(?P<bottom>{_PLAIN})(?![\d/]))?)"
)
_MARKED = re.compile(r"####\s*(.+)")
_ANSWER_IS = re.compile(r"answer\s*(?:is|:|=)\s*:?\s*([^\n]+)", re.IGNORECASE)
_FORM = re.compile(r"####\s-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


def find_numbers(text: str) -> list[Fraction]:
    """All numbers of a text in order: `1,234.5`, `$5`, `-3`, `1/2`, `1 1/2`, `\\frac{1}{2}`; no units."""
    text = text.replace("\u2212", "-").replace("\\$", "$").replace("\\%", "%").replace("{,}", ",")
    numbers = (_value(match) for match in _NUMBER.finditer(text))
    return [number for number in numbers if number is not None]


def _value(match: re.Match[str]) -> Fraction | None:
    top = _fraction(match["latex_top"] or match["top"])
    bottom = _fraction(match["latex_bottom"] or match["bottom"] or "1")
    if bottom == 0:
        return None
    value = int(match["whole"] or 0) + top / bottom
    return -value if "-" in match["sign"] else value


def _fraction(digits: str) -> Fraction:
    return Fraction(digits.replace(",", ""))


def extract_answer(text: str) -> Fraction | None:
    """The number an answer states, by the preference in the module docstring; None when it holds none."""
    for found in (_MARKED.findall(text), find_boxed(text), _ANSWER_IS.findall(text)):
        for stated in reversed(found):
            numbers = find_numbers(_after_equals(stated))
            if numbers:
                # A value, and then perhaps words ("18 dollars for 2 days"): the first number is the value.
                return numbers[0]
    numbers = find_numbers(text)
    return numbers[-1] if numbers else None


def _after_equals(stated: str) -> str:
    """`#### 3 * 6 = 18` states 18: what counts is right of the last equals sign."""
    return stated.rsplit("=", 1)[-1]


def is_well_formed(text: str) -> bool:
    """Whether the last line is `#### <number>`, without currency, unit or anything else."""
    lines = text.rstrip().splitlines()
    return bool(lines) and _FORM.fullmatch(lines[-1].strip()) is not None


def format_number(value: Fraction) -> str:
    """`18`, `2.5`, and an exact fraction only where no short decimal exists (`1/3`)."""
    if value.denominator == 1:
        return str(value.numerator)
    decimal = f"{float(value):.6f}".rstrip("0")
    return decimal if Fraction(decimal) == value else str(value)


def solution_body(text: str) -> str:
    """The reasoning without the line `#### <answer>`, what follows it, and a heading that announced it."""
    body = _MARKED.split(text, maxsplit=1)[0].rstrip()
    return re.sub(r"\n+\W*(?:final\s+)?answer\W*$", "", body, flags=re.IGNORECASE).rstrip()


def end_with_answer(text: str, answer: Fraction) -> str | None:
    """The solution with its ending replaced by the line `#### <answer>`; None when no reasoning is left."""
    body = solution_body(text)
    if not find_numbers(body):
        return None
    return f"{body}\n#### {format_number(answer)}"
