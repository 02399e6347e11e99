"""MBPP: short problems in words with assertions (public name: google-research-datasets/mbpp, "full").

`test` is the even ids of the test split.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from specialists.evaluation.file_task import Files
from specialists.evaluation.program import Problem, ProgramTask, ask_to_complete, defines
from specialists.evaluation.task import Message, Split


@dataclass(frozen=True)
class MBPP(ProgramTask):
    """Three assertions are shown in the prompt, as the authors do; the challenge tests are not."""

    name = "mbpp"
    files: ClassVar[Files] = {
        "train": ("mbpp/train_601_974.jsonl",),
        "val": ("mbpp/val_511_600.jsonl",),
        "test": ("mbpp/test_even_ids.jsonl",),
    }

    def parse(self, row: Any, row_id: str) -> Iterable[Problem]:
        asserts = [*row["test_list"], *row["challenge_test_list"]]
        tests = "\n".join([row["test_setup_code"], *asserts]).strip().replace("\r\n", "\n")
        entry_point = _called_function(row["test_list"][0], row["code"])
        yield Problem(f"mbpp/{self.split}/{row['task_id']}", row["text"].strip(), entry_point, tests)

    def prompt(self, item: Problem) -> list[Message]:
        request = "Answer with one ```python block. The code must pass these tests:"
        content = f"{item.question}\n\n{request}\n\n```python\n{_shown_tests(item)}\n```"
        return [{"role": "user", "content": content}]


@dataclass(frozen=True)
class MBPPStub(MBPP):
    """MBPP asked in HumanEval's way, a signature with a docstring to complete: for training, not for scores.

    The signature is the reference's, the first tests are the docstring's examples; problems whose tests are not
    plain comparisons of a call with a value are left out.
    """

    name = "mbpp_stub"
    files: ClassVar[Files] = {"train": MBPP.files["train"], "val": MBPP.files["val"]}

    split: Split = "train"

    def parse(self, row: Any, row_id: str) -> Iterable[Problem]:
        for problem in MBPP.parse(self, row, row_id):
            stub = _make_stub(problem, row["code"], row["test_list"])
            if stub is not None:
                yield replace(problem, id=f"mbpp_stub/{problem.id}", question=stub, stub=stub)

    def prompt(self, item: Problem) -> list[Message]:
        return ask_to_complete(item)


def _make_stub(problem: Problem, reference: str, tests: Sequence[str]) -> str | None:
    """The signature of the reference with the problem's text and two examples as docstring."""
    definitions = [
        node
        for node in ast.walk(ast.parse(reference.replace("\r\n", "\n")))
        if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point
    ]
    examples = [_doctest(test) for test in tests[:2]]
    if not definitions or not all(examples):
        return None
    lines = [problem.question, *(line for example in examples for line in example)]
    body = "\n".join(f"    {line}" for line in lines).lstrip()
    return f'def {problem.entry_point}({ast.unparse(definitions[0].args)}):\n    """ {body}\n    """\n'


def _doctest(assertion: str) -> list[str]:
    """`assert f(1) == 2` as `>>> f(1)` and `2`; empty when it is of another form."""
    statement = ast.parse(assertion).body[0]
    if not (isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare)):
        return []
    test = statement.test
    if not (isinstance(test.left, ast.Call) and isinstance(test.ops[0], ast.Eq)):
        return []
    return [f">>> {ast.unparse(test.left)}", ast.unparse(test.comparators[0])]


def _shown_tests(problem: Problem) -> str:
    return "\n".join(line for line in problem.tests.splitlines() if line.startswith("assert"))


def _called_function(assertion: str, reference: str) -> str:
    """The function an assertion is about: the one it calls that the reference solution defines."""
    called = [node.id for node in ast.walk(ast.parse(assertion)) if isinstance(node, ast.Name)]
    defined = [name for name in called if defines(reference, name)]
    functions = [name for name in defined if re.search(rf"\bdef\s+{re.escape(name)}\b", reference)]
    return (functions or defined or called)[0]
