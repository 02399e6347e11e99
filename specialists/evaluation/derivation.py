"""A calculation in the data's own words, taken apart: one operation a line, each with its value.

A small model that goes from `(81.3 - 57.8) / 57.8` straight to the answer guesses; from step to step it can calculate.
"""

import ast
import re

_OPERATIONS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_TO_PLAIN = str.maketrans("[]{}\u2013\u2212\u00d7\u00f7", "()()--*/")
_NOT_COUNTED = re.compile(r"[$€£¥%\s]")
_GROUPED = re.compile(r"\d,\d{3}")
_TOLERANCE = 0.006  # answers are given to two decimals


def expand_derivation(text: str, answer: float) -> list[str] | None:
    """`(53.7-65.6)/65.6` with answer -18.14 (percent): `53.7 - 65.6 = -11.9`, `-11.9 / 65.6 = -0.1814`.

    None for anything but plain arithmetic of two numbers or more, or when it does not make `answer`, as it is or in percent.
    """
    plain = _NOT_COUNTED.sub("", text.translate(_TO_PLAIN))
    try:
        tree = ast.parse(plain.replace(",", ""), mode="eval").body
        steps: list[str] = []
        value = _expand(tree, steps, is_grouped=bool(_GROUPED.search(text)))
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError):
        return None
    makes_answer = any(abs(scale * value - answer) <= _TOLERANCE for scale in (1, 100))
    return steps if steps and makes_answer else None


def _expand(node: ast.expr, steps: list[str], is_grouped: bool) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_expand(operand, steps, is_grouped)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            first, second = (_expand(side, steps, is_grouped) for side in (left, right))
            value = _calculate(op, first, second)
            shown = [_show(number, is_grouped) for number in (first, second, value)]
            behind = f"({shown[1]})" if second < 0 else shown[1]
            steps.append(f"{shown[0]} {_OPERATIONS[type(op)]} {behind} = {shown[2]}")
            return value
    raise ValueError(f"not plain arithmetic: {ast.unparse(node)}")


def _calculate(op: ast.operator, first: float, second: float) -> float:
    match op:
        case ast.Add():
            return first + second
        case ast.Sub():
            return first - second
        case ast.Mult():
            return first * second
    return first / second


def _show(number: float, is_grouped: bool) -> str:
    """Four decimals at most, thousands apart where the text has them so."""
    written = f"{number:,.4f}" if is_grouped else f"{number:.4f}"
    return written.rstrip("0").rstrip(".")
