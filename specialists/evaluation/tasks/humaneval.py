"""HumanEval: signatures with docstrings to complete (public name: openai/openai_humaneval)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.file_task import Files
from specialists.evaluation.program import Problem, ProgramTask, ask_to_complete
from specialists.evaluation.task import Message


@dataclass(frozen=True)
class HumanEval(ProgramTask):
    """164 problems. For measuring only: there is no training split."""

    name = "humaneval"
    files: ClassVar[Files] = {"test": ("humaneval/HumanEval.jsonl.gz",)}

    max_new_tokens: int = 512

    def parse(self, row: Any, row_id: str) -> Iterable[Problem]:
        prompt, entry_point = row["prompt"], row["entry_point"]
        start = prompt.rindex(f"def {entry_point}")
        tests = f"{row['test'].strip()}\n\ncheck({entry_point})"
        yield Problem(row["task_id"], prompt, entry_point, tests, prompt[:start].strip(), prompt[start:])

    def prompt(self, item: Problem) -> list[Message]:
        return ask_to_complete(item)
