"""Programming problems graded by running their tests: HumanEval and MBPP, pass@1 with one greedy answer.

The answer may be a fenced block among words or bare code; well formed is a closed ```python block that holds
the asked function. Right means: the assembled program, tests included, runs to its end in the sandbox.
Rows: `humaneval/` (public name: openai/openai_humaneval) and `mbpp/` (google-research-datasets/mbpp).
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from specialists.evaluation.sandbox import Sandbox
from specialists.evaluation.task import Grade, Message, Split, TaskDataError, read_rows

_FENCE = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_PYTHON_TAGS = {"python", "py", "python3", ""}
_MBPP_FILES: dict[Split, str] = {
    "train": "mbpp/train_601_974.jsonl",
    "val": "mbpp/val_511_600.jsonl",
    "test": "mbpp/test_even_ids.jsonl",
}


def extract_code(text: str, entry_point: str) -> str:
    """The program in an answer: the fenced block that defines the entry point, else the first, else all."""
    blocks: list[str] = [body for tag, body in _FENCE.findall(text) if tag.lower() in _PYTHON_TAGS]
    for block in blocks:
        if _defines(block, entry_point):
            return block.strip("\n")
    return blocks[0].strip("\n") if blocks else text.strip("\n")


def _defines(code: str, name: str) -> bool:
    # A pattern and not a parse: code that does not parse still says what it meant to define.
    return re.search(rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b", code, re.MULTILINE) is not None


def is_well_formed(text: str, entry_point: str) -> bool:
    """Whether the answer holds a closed ```python block that parses and defines the asked function."""
    closed = re.findall(r"```python[^\n]*\n(.*?)```", text, re.DOTALL)
    return any(_defines(block, entry_point) and _parses(block) for block in closed)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Problem:
    """One programming problem.

    `question` is the problem as given; `preamble` is code that stands before the asked function (imports,
    helpers), `stub` its signature and docstring when the answer may be a bare body, `tests` what must pass.
    """

    id: str
    question: str
    entry_point: str
    tests: str
    preamble: str = ""
    stub: str = ""


def assemble(problem: Problem, code: str) -> str:
    """The program to run: preamble, the answer's code (or the stub it continues), tests."""
    if problem.stub and not _defines(code, problem.entry_point):
        code = problem.stub + _indent_body(code)
    return "\n\n".join(part for part in (problem.preamble, code, problem.tests) if part)


def _indent_body(code: str) -> str:
    first = next((line for line in code.splitlines() if line.strip()), "")
    if first.startswith((" ", "\t")):
        return code
    return "\n".join(f"    {line}" if line.strip() else line for line in code.splitlines())


def grade_program(problem: Problem, text: str, sandbox: Sandbox) -> Grade:
    code = extract_code(text, problem.entry_point)
    result = sandbox.run(assemble(problem, code))
    return Grade(
        correct=result.ok,
        well_formed=is_well_formed(text, problem.entry_point),
        extracted=code,
        detail=result.error,
    )


def fence(problem: Problem, text: str) -> str | None:
    """The answer's code alone, in one fenced block; None when it does not define the asked function."""
    code = extract_code(text, problem.entry_point)
    if not (_defines(code, problem.entry_point) and _parses(code)):
        return None
    return f"```python\n{code}\n```"


@dataclass(frozen=True, slots=True)
class HumanEval:
    """164 signatures with docstrings to complete. For measuring only: there is no training split."""

    split: Split = "test"
    name: str = "humaneval"
    max_new_tokens: int = 512
    sandbox: Sandbox = field(default_factory=Sandbox)

    def load(self, data: Path) -> list[Problem]:
        if self.split != "test":
            raise TaskDataError(f"humaneval has only a 'test' split, not {self.split!r}")
        path = data / "humaneval" / "HumanEval.jsonl.gz"
        return [_humaneval_problem(path, row) for row in read_rows(path)]

    def prompt(self, item: Problem) -> list[Message]:
        return _ask_to_complete(item)

    def grade(self, item: Problem, text: str) -> Grade:
        return grade_program(item, text, self.sandbox)

    def reference(self, item: Problem) -> str:
        return ""  # a program copied is not a program found

    def rewrite(self, item: Problem, text: str) -> str | None:
        return fence(item, text)


def _ask_to_complete(problem: Problem) -> list[Message]:
    request = "Complete this Python function. Answer with the whole function in one ```python block."
    return [{"role": "user", "content": f"{request}\n\n```python\n{problem.question.rstrip()}\n```"}]


@dataclass(frozen=True, slots=True)
class MBPP:
    """Short problems in words with three assertions each, shown in the prompt as the authors do."""

    split: Split = "test"
    name: str = "mbpp"
    max_new_tokens: int = 400
    sandbox: Sandbox = field(default_factory=Sandbox)

    def load(self, data: Path) -> list[Problem]:
        path = data / _MBPP_FILES[self.split]
        return [_mbpp_problem(path, self.split, row) for row in read_rows(path)]

    def prompt(self, item: Problem) -> list[Message]:
        request = "Answer with one ```python block. The code must pass these tests:"
        content = f"{item.question}\n\n{request}\n\n```python\n{_shown_tests(item)}\n```"
        return [{"role": "user", "content": content}]

    def grade(self, item: Problem, text: str) -> Grade:
        return grade_program(item, text, self.sandbox)

    def reference(self, item: Problem) -> str:
        return ""  # a program copied is not a program found

    def rewrite(self, item: Problem, text: str) -> str | None:
        return fence(item, text)


@dataclass(frozen=True, slots=True)
class MBPPStub:
    """MBPP asked in HumanEval's way, a signature with a docstring to complete: for training, not for scores.

    The signature is the reference's, the first tests are the docstring's examples; problems whose tests are not
    plain comparisons of a call with a value are left out.
    """

    split: Split = "train"
    name: str = "mbpp_stub"
    max_new_tokens: int = 400
    sandbox: Sandbox = field(default_factory=Sandbox)

    def load(self, data: Path) -> list[Problem]:
        path = data / _MBPP_FILES[self.split]
        rows = [(_mbpp_problem(path, self.split, row), row) for row in read_rows(path)]
        stubs = [(problem, _make_stub(problem, row["code"], row["test_list"])) for problem, row in rows]
        return [
            replace(problem, id=f"mbpp_stub/{problem.id}", question=stub, stub=stub)
            for problem, stub in stubs
            if stub is not None
        ]

    def prompt(self, item: Problem) -> list[Message]:
        return _ask_to_complete(item)

    def grade(self, item: Problem, text: str) -> Grade:
        return grade_program(item, text, self.sandbox)

    def reference(self, item: Problem) -> str:
        return ""

    def rewrite(self, item: Problem, text: str) -> str | None:
        return fence(item, text)


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


def _humaneval_problem(path: Path, row: dict[str, Any]) -> Problem:
    try:
        prompt, entry_point = row["prompt"], row["entry_point"]
        start = prompt.rindex(f"def {entry_point}")
        tests = f"{row['test'].strip()}\n\ncheck({entry_point})"
        return Problem(row["task_id"], prompt, entry_point, tests, prompt[:start].strip(), prompt[start:])
    except (KeyError, ValueError) as error:
        raise TaskDataError(f"{path}: a row without {error}") from error


def _mbpp_problem(path: Path, split: Split, row: dict[str, Any]) -> Problem:
    try:
        asserts = [*row["test_list"], *row["challenge_test_list"]]
        tests = "\n".join([row["test_setup_code"], *asserts]).strip().replace("\r\n", "\n")
        text, number = row["text"].strip(), row["task_id"]
        entry_point = _called_function(row["test_list"][0], row["code"])
    except (KeyError, IndexError, AttributeError) as error:
        raise TaskDataError(f"{path}: a row without {error}") from error
    return Problem(f"mbpp/{split}/{number}", text, entry_point, tests)


def _called_function(assertion: str, reference: str) -> str:
    """The function an assertion is about: the one it calls that the reference solution defines."""
    called = [node.id for node in ast.walk(ast.parse(assertion)) if isinstance(node, ast.Name)]
    defined = [name for name in called if _defines(reference, name)]
    functions = [name for name in defined if re.search(rf"\bdef\s+{re.escape(name)}\b", reference)]
    return (functions or defined or called)[0]
