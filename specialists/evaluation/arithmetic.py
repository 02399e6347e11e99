"""The value of a written calculation: `x0 = 60.94 - 25.14; ans = x0 / 25.14`. Numbers, names, + - * / ** only."""

import ast
import operator
from collections.abc import Callable
from typing import Any

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {ast.Gt: operator.gt, ast.Lt: operator.lt}


def run_steps(program: str) -> list[tuple[str, float | str]]:
    """Each step's right side with the earlier values put in, and its value; "yes" or "no" for a comparison.

    Raises ValueError for anything but assignments of arithmetic.
    """
    values: dict[str, float] = {}
    steps: list[tuple[str, float | str]] = []
    try:
        for statement in ast.parse(program.replace(";", "\n").replace("\n ", "\n")).body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                raise ValueError(f"not an assignment: {ast.unparse(statement)}")
            value = _evaluate(statement.value, values)
            steps.append((_write(statement.value, values), _say(value)))
            values[statement.targets[0].id] = value
    except (SyntaxError, ZeroDivisionError, OverflowError, KeyError) as error:
        raise ValueError(f"cannot calculate {program!r}: {error}") from error
    return steps


def format_value(value: float | str) -> str:
    """Up to five decimals, none where there are none."""
    return value if isinstance(value, str) else f"{value:.5f}".rstrip("0").rstrip(".")


def _say(value: float) -> float | str:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _evaluate(node: ast.expr, values: dict[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return float(_OPERATORS[type(op)](_evaluate(left, values), _evaluate(right, values)))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return bool(_COMPARISONS[type(op)](_evaluate(left, values), _evaluate(right, values)))
    raise ValueError(f"not arithmetic: {ast.unparse(node)}")


def _write(node: ast.expr, values: dict[str, float]) -> str:
    """The calculation with names replaced by their values."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.AST:
            return ast.Name(format_value(values[name.id]))

    return ast.unparse(Fill().visit(node))
