"""OpenBookQA and ARC, easy and challenge, in the form in which LLM-Adapters keeps them; BoolQ from there too.

Public names: allenai/openbookqa, allenai/ai2_arc, google/boolq. Training rows only: there is no test split.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from specialists.evaluation.choice import ChoiceItem, MultipleChoice
from specialists.evaluation.file_task import Files
from specialists.evaluation.task import Split, read_json

_QUESTION = re.compile(r"question: (.*)\n\n(Answer1: .*)\n\nAnswer format", re.DOTALL)
_OPTION = re.compile(r"Answer\d: ")
_YES_NO = re.compile(r"question: (.*)\n\nAnswer format", re.DOTALL)


@dataclass(frozen=True)
class _ScienceQA(MultipleChoice):
    split: Split = "train"

    def read_file(self, path: Path) -> Iterable[Any]:
        rows: Iterable[Any] = read_json(path)
        return rows

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        match = _QUESTION.search(row["instruction"])
        if match is None:
            raise ValueError(f"no question with options in {row['instruction'][:60]!r}")
        options = tuple(option.strip() for option in _OPTION.split(match[2])[1:])
        yield ChoiceItem(row_id, match[1].strip(), options, int(row["answer"].removeprefix("answer")) - 1)


class OpenBookQA(_ScienceQA):
    """Elementary science with four options."""

    name = "openbookqa"
    files: ClassVar[Files] = {"train": ("openbookqa/openbookqa_train.json.gz",)}


class ArcEasy(_ScienceQA):
    """Grade-school science, the easier part."""

    name = "arc_easy"
    files: ClassVar[Files] = {"train": ("arc_easy/arc_easy_train.json.gz",)}


class ArcChallenge(_ScienceQA):
    """Grade-school science, the harder part."""

    name = "arc_challenge"
    files: ClassVar[Files] = {"train": ("arc_challenge/arc_challenge_train.json",)}


class BoolQ(_ScienceQA):
    """Yes or no, without the passage."""

    name = "boolq"
    files: ClassVar[Files] = {"train": ("boolq/boolq_train.json.gz",)}

    def parse(self, row: Any, row_id: str) -> Iterable[ChoiceItem]:
        match = _YES_NO.search(row["instruction"])
        if match is None:
            raise ValueError(f"no question in {row['instruction'][:60]!r}")
        yield ChoiceItem(row_id, match[1].strip(), ("Yes", "No"), ["true", "false"].index(row["answer"]))
