"""Prompts, extraction and assembly; the programs run in the real sandbox."""

import pytest

from specialists.evaluation.program import Problem, assemble, extract_code, is_well_formed

ADD = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    "text",
    [
        ADD,
        f"```python\n{ADD}\n```",
        f"Sure!\n\n```python\n{ADD}\n```\nIt adds.",
        f"```\n{ADD}\n```",
        f"```py\n{ADD}\n```",
        f"```python\n{ADD}",  # cut off before the fence was closed
        f"```bash\npip install x\n```\n```python\n{ADD}\n```",
        f"```python\nprint(1)\n```\n```python\n{ADD}\n```\n```python\nadd(1, 2)\n```",
    ],
)
def test_the_program_is_found(text: str) -> None:
    assert extract_code(text, "add") == ADD


def test_without_the_function_the_first_block_is_taken() -> None:
    assert extract_code("```python\nx = 1\n```\n```python\ny = 2\n```", "add") == "x = 1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"```python\n{ADD}\n```", True),
        (f"Words.\n```python\n{ADD}\n```\nWords.", True),
        (f"```python\n{ADD}", False),
        (f"```\n{ADD}\n```", False),
        (ADD, False),
        ("```python\ndef other(): pass\n```", False),
        ("```python\ndef add(a, b:\n```", False),
    ],
)
def test_the_asked_form(text: str, expected: bool) -> None:
    assert is_well_formed(text, "add") is expected


STUB = 'def add(a, b):\n    """Add."""\n'


@pytest.mark.parametrize(
    "code",
    [
        ADD,
        "    return a + b",
        "return a + b",
        "if a:\n    return a + b\nreturn b",
        "import math\n\ndef add(a, b):\n    return math.fsum([a, b])",
    ],
)
def test_whole_functions_and_bare_bodies_become_programs(code: str) -> None:
    problem = Problem("p", STUB, "add", "assert add(1, 2) == 3", "import os", STUB)
    exec(assemble(problem, code), {})
