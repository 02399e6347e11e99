"""A JSON object out of somebody's file: parsed strictly, and with nothing a parser may trip over. No torch here."""

import json
from typing import Any, NoReturn


def parse_object(content: bytes) -> dict[str, Any]:
    """Raises ValueError, saying what was found: no JSON in UTF-8, no object, a key twice, or nested too deeply."""
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, expected an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def is_whole(value: object) -> bool:
    """A whole number, which `true` is not, though Python says so."""
    return isinstance(value, int) and not isinstance(value, bool)
