"""Programming problems graded by running their tests: pass@1 with one greedy answer.

The answer may be a fenced block among words or bare code; well formed is a closed ```python block that holds
the asked function. Right means: the assembled program, tests included, runs to its end in the sandbox.
"""

import ast
import re
from dataclasses import dataclass, field
from typing import ClassVar

from specialists.evaluation.file_task import FileTask
from specialists.evaluation.sandbox import Sandbox
from specialists.evaluation.task import Grade, Message

_FENCE = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_PYTHON_TAGS = {"python", "py", "python3", ""}


def extract_code(text: str, entry_point: str) -> str:
    """The program in an answer: the fenced block that defines the entry point, else the first, else all."""
    blocks: list[str] = [body for tag, body in _FENCE.findall(text) if tag.lower() in _PYTHON_TAGS]
    for block in blocks:
        if defines(block, entry_point):
            return block.strip("\n")
    return blocks[0].strip("\n") if blocks else text.strip("\n")


def defines(code: str, name: str) -> bool:
    # A pattern and not a parse: code that does not parse still says what it meant to define.
    return re.search(rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b", code, re.MULTILINE) is not None


def is_well_formed(text: str, entry_point: str) -> bool:
    """Whether the answer holds a closed ```python block that parses and defines the asked function."""
    closed = re.findall(r"```python[^\n]*\n(.*?)```", text, re.DOTALL)
    return any(defines(block, entry_point) and _parses(block) for block in closed)


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
    category: str = ""


def assemble(problem: Problem, code: str) -> str:
    """The program to run: preamble, the answer's code (or the stub it continues), tests."""
    if problem.stub and not defines(code, problem.entry_point):
        code = problem.stub + _indent_body(code)
    return "\n\n".join(part for part in (problem.preamble, code, problem.tests) if part)


def _indent_body(code: str) -> str:
    first = next((line for line in code.splitlines() if line.strip()), "")
    if first.startswith((" ", "\t")):
        return code
    return "\n".join(f"    {line}" if line.strip() else line for line in code.splitlines())


@dataclass(frozen=True)
class ProgramTask(FileTask[Problem]):
    """Grades by running; subclasses say where the problems are and how they are asked."""

    val_share: ClassVar[float] = 0.0

    max_new_tokens: int = 400
    sandbox: Sandbox = field(default_factory=Sandbox)

    def grade(self, item: Problem, text: str) -> Grade:
        code = extract_code(text, item.entry_point)
        result = self.sandbox.run(assemble(item, code))
        return Grade(
            correct=result.ok,
            well_formed=is_well_formed(text, item.entry_point),
            extracted=code,
            detail=result.error,
        )

    def reference(self, item: Problem) -> str:
        return ""  # a program copied is not a program found

    def rewrite(self, item: Problem, text: str) -> str | None:
        """The answer's code alone, in one fenced block; None when it does not define the asked function."""
        code = extract_code(text, item.entry_point)
        return f"```python\n{code}\n```" if defines(code, item.entry_point) and _parses(code) else None


def ask_to_complete(problem: Problem) -> list[Message]:
    request = "Complete this Python function. Answer with the whole function in one ```python block."
    return [{"role": "user", "content": f"{request}\n\n```python\n{problem.question.rstrip()}\n```"}]
