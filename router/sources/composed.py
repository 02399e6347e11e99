"""Short prompts composed from our own templates (composed/*.toml): what people type and no data set holds.

A template's `{slot}` is filled with one of the slot's words, each time anew; `{n}`, `{big}` and `{year}` are
numbers. The prompts are the same in every run: each intent has its own fixed seed.
"""

import random
import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from router.intents import INTENTS
from router.item import Item, Role, Source
from router.sources.reading import SourceFileError

_FOLDER = Path(__file__).with_name("composed")
_NUMBERS = {"n": (2, 60), "big": (100, 9999), "year": (1990, 2023)}


def fill(template: str, slots: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """Fills every slot of a template; `{{` and `}}` are literal braces.

    Raises KeyError when the template names a slot that is not in `slots`.
    """
    parts: list[str] = []
    for literal, slot, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if slot is None:
            continue
        if slot in slots:
            parts.append(rng.choice(slots[slot]))
        elif slot in _NUMBERS:
            parts.append(str(rng.randint(*_NUMBERS[slot])))
        else:
            raise KeyError(slot)
    return "".join(parts)


def _load(intent: str, data: Path) -> Iterator[Item]:
    del data  # the templates are the project's own
    path = _FOLDER / f"{intent}.toml"
    try:
        grammar: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SourceFileError(f"cannot read {path}: {error}") from error
    rng = random.Random(f"composed {intent}")
    for template in grammar["templates"]:
        draws = grammar["draws"] if "{" in template.replace("{{", "") else 1
        for _ in range(draws):
            yield Item(text=fill(template, grammar["slots"], rng), verbatim="\n    " in template)


SOURCES = tuple(
    Source(
        name=f"composed_{intent}",
        public_name="this project's templates, router/sources/composed",
        intent=intent,
        role=Role.TRAIN,
        load=partial(_load, intent),
        weight=1.5,
    )
    for intent in INTENTS
)
