"""Texts and tables that go before a question, bounded: what is shown of them, and how a table is written.

Tasks know no tokenizer, so tokens are estimated: one for each digit and sign, one for each four letters of a word
begun. Against Qwen's own count that is 1.0 to 1.5 times for tables and reports, 0.95 to 1.3 for Spanish. A
table is given whole rows first, then paragraphs by how many of the question's words they hold, until the
budget is used; paragraphs keep their order.
"""

import re
from collections.abc import Sequence

_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_|\n")
_WORD = re.compile(r"[^\W\d_]{3,}")
_LETTERS_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """About what a Qwen tokenizer counts, rather more than less."""
    return sum(-(-len(piece) // _LETTERS_PER_TOKEN) for piece in _PIECES.findall(text))


def fit_text(text: str, max_tokens: int) -> str:
    """The beginning of a text in whole words."""
    if estimate_tokens(text) <= max_tokens:
        return text
    words = text.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if estimate_tokens(" ".join(words[:middle])) <= max_tokens else (low, middle - 1)
        )
    return " ".join(words[:low])


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """One line a row, cells between bars; empty rows and the spaces of the data are left out."""
    lines = (" | ".join(" ".join(cell.split()) for cell in row) for row in rows)
    return "\n".join(line.strip() for line in lines if line.strip(" |"))


def fit_context(table: str, paragraphs: Sequence[str], question: str, max_tokens: int) -> str:
    """Table and paragraphs within the budget, by the rule in the module docstring."""
    lines: list[str] = []
    used = 0
    for line in table.splitlines():
        used += estimate_tokens(line) + 1
        if used > max_tokens:
            return "\n".join(lines)
        lines.append(line)
    kept = _choose_paragraphs(paragraphs, question, max_tokens - used)
    return "\n\n".join(part for part in ("\n".join(lines), "\n".join(kept)) if part)


def _choose_paragraphs(paragraphs: Sequence[str], question: str, budget: int) -> list[str]:
    wanted = {word.lower() for word in _WORD.findall(question)}
    shared = [len(wanted & {word.lower() for word in _WORD.findall(text)}) for text in paragraphs]
    chosen: dict[int, str] = {}
    for index in sorted(range(len(paragraphs)), key=lambda index: -shared[index]):
        text = fit_text(paragraphs[index], budget)
        budget -= estimate_tokens(text) + 1
        if text:
            chosen[index] = text
        if budget <= 0:
            break
    return [chosen[index] for index in sorted(chosen)]
