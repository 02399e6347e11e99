"""TAT-QA: questions about a table and the text around it in financial reports (public name: NExTplusplus/TAT-QA).

`test` is every second context of the gold test file, `train` and `val` the development file, split by
contexts. The context is bounded: the table whole, then paragraphs, `MAX_CONTEXT_TOKENS` at most.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from specialists.evaluation.context import fit_context, render_table
from specialists.evaluation.derivation import expand_derivation
from specialists.evaluation.file_task import Files, FileTask
from specialists.evaluation.last_line import MARK, read_last_line, rewrite_last_line
from specialists.evaluation.task import Grade, Message, read_json, read_rows
from specialists.evaluation.tatqa_metric import (
    ScaledAnswer,
    format_answer,
    parse_answer,
    score_answer,
    to_number,
)

MAX_CONTEXT_TOKENS = 1400

INSTRUCTION = (
    'Give the calculation if there is one, and end with a line of the form "Answer: <answer>". Put thousand, million, '
    "billion or percent after a number that has such a scale, and semicolons between several answers."
)

_TEST = "tatqa/test_gold_even.jsonl"


@dataclass(frozen=True, slots=True)
class FinanceItem:
    """One question with its context; `derivation` is the calculation in the data's own words, if any."""

    id: str
    question: str
    context: str
    gold: ScaledAnswer
    category: str
    derivation: str = ""

    @property
    def is_computed(self) -> bool:
        return self.category in ("arithmetic", "count")


@dataclass(frozen=True)
class TatQA(FileTask[FinanceItem]):
    """Correct is the metric's exact match, the credit its F1."""

    name = "tatqa"
    files: ClassVar[Files] = {"train": ("tatqa/tatqa_dataset_dev.json.gz",), "test": (_TEST,)}

    max_new_tokens: int = 160

    def read_file(self, path: Path) -> Iterable[Any]:
        if path.name.endswith(".jsonl"):
            return read_rows(path)
        rows = read_json(path)
        test = path.parents[1] / _TEST
        tables = {_table_key(row) for row in read_rows(test)} if test.exists() else set()
        return [row for row in rows if _table_key(row) not in tables]

    def group(self, row: Any) -> str:
        return _table_key(row)

    def parse(self, row: Any, row_id: str) -> Iterable[FinanceItem]:
        table = render_table(row["table"]["table"])
        paragraphs = [part["text"] for part in sorted(row["paragraphs"], key=lambda part: part["order"])]
        for number, asked in enumerate(row["questions"]):
            question = " ".join(asked["question"].split())
            yield FinanceItem(
                f"{row_id}/{number}",
                question,
                fit_context(table, paragraphs, question, MAX_CONTEXT_TOKENS),
                _gold(asked),
                asked["answer_type"],
                "" if asked["answer_type"] != "arithmetic" else asked["derivation"].strip(),
            )

    def prompt(self, item: FinanceItem) -> list[Message]:
        return [{"role": "user", "content": f"{item.context}\n\n{item.question}\n\n{INSTRUCTION}"}]

    def grade(self, item: FinanceItem, text: str) -> Grade:
        stated = read_last_line(text)
        exact, f1 = score_answer(parse_answer(stated.answer), item.gold, is_computed=item.is_computed)
        return Grade(
            correct=exact,
            well_formed=stated.is_marked,
            extracted=stated.answer or None,
            expected=format_answer(item.gold),
            credit=f1,
        )

    def reference(self, item: FinanceItem) -> str:
        return "\n".join([*_calculation(item), f"{MARK} {format_answer(item.gold)}"])

    def rewrite(self, item: FinanceItem, text: str) -> str | None:
        return rewrite_last_line(text, format_answer(item.gold))


def _calculation(item: FinanceItem) -> list[str]:
    """Step by step where the derivation can be read, else in the data's words; nothing where nothing is calculated."""
    if not item.derivation:
        return []
    value = to_number(item.gold.texts[0])
    steps = None if value is None else expand_derivation(item.derivation, float(value))
    return steps or [item.derivation]


def _table_key(row: Any) -> str:
    return re.sub(r"\W+", "", json.dumps(row["table"]["table"]).lower())


def _gold(asked: Any) -> ScaledAnswer:
    answer = asked["answer"]
    texts = tuple(map(str, answer)) if isinstance(answer, list) else (str(answer),)
    if not texts:
        raise ValueError("no answer")
    return ScaledAnswer(texts, asked["scale"])
