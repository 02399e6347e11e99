"""HEAD-QA: Spanish health-care exams, four or five options (public name: dvilares/head_qa, "es").

`test` is the exams of 2016 and 2017, whole, the few questions about a picture included, as published scores are.
Training leaves out pictures, and questions that the test exams repeat word for word.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files
from specialists.evaluation.task import read_json

_TEST = "es_headqa/test_HEAD.json.gz"


@dataclass(frozen=True)
class HeadQA(MultipleChoice):
    """The prompt is Spanish throughout."""

    name = "headqa"
    files: ClassVar[Files] = {
        "train": ("es_headqa/train_HEAD.json.gz", "es_headqa/dev_HEAD.json"),
        "test": (_TEST,),
    }
    language = "es"
    instruction = "Responde solo con la letra de la opción correcta."

    def read_file(self, path: Path) -> Iterable[Any]:
        asked_in_test = frozenset() if self.split == "test" else _test_questions(path.parents[1] / _TEST)
        for row in _read_exams(path):
            if self.split == "test" or not (row["image"] or _key(row["qtext"]) in asked_in_test):
                yield row

    def group(self, row: Any) -> str:
        return _key(row["qtext"])

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        numbers = [str(answer["aid"]) for answer in row["answers"]]
        options = tuple(answer["atext"].strip() for answer in row["answers"])
        yield ChoiceItem(
            row_id, row["qtext"].strip(), options, numbers.index(str(row["ra"])), row["category"]
        )


def _read_exams(path: Path) -> Iterator[dict[str, Any]]:
    for exam in read_json(path)["exams"].values():
        for question in exam["data"]:
            yield {**question, "category": exam["category"]}


def _key(text: str) -> str:
    return re.sub(r"\W+", "", text.lower())


@cache
def _test_questions(path: Path) -> frozenset[str]:
    """Empty where the test file is not at hand: then nothing can be measured on it either."""
    return frozenset(_key(row["qtext"]) for row in _read_exams(path)) if path.exists() else frozenset()
