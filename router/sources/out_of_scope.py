"""What no specialist should take: CLINC150's out-of-scope split, two of its domains kept back whole, gibberish.

Gibberish is made here, of other kinds for training than for measuring, so that one kind is not learned by heart.
"""

import random
import string
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from router.intents import GENERAL
from router.item import Item, Role, Source
from router.sources.conversation import CLINC_LEFT_OUT
from router.sources.reading import read_json

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NUM_GIBBERISH = 240


def _clinc_split(data: Path) -> Iterator[Item]:
    for text, _ in read_json(data / "clinc150/data_full.json.gz")["oos_test"]:
        yield Item(text=text)


def _clinc_domain(domain: str, data: Path) -> Iterator[Item]:
    wanted = set(read_json(data / "clinc150/domains.json")[domain]) - CLINC_LEFT_OUT
    for text, intent in read_json(data / "clinc150/data_full.json.gz")["test"]:
        if intent in wanted:
            yield Item(text=text)


def _keyboard(rng: random.Random) -> str:
    row = rng.choice(_ROWS)
    return " ".join("".join(rng.choices(row, k=rng.randint(2, 9))) for _ in range(rng.randint(1, 6)))


def _repeated(rng: random.Random) -> str:
    unit = rng.choice(
        (rng.choice(string.ascii_lowercase), rng.choice("?!.,-_*#"), "ha", "la ", "bla ", "no ", "🙂")
    )
    return unit * rng.randint(3, 30)


def _letters(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(8, 60)))


def _syllables(rng: random.Random) -> str:
    words = []
    for _ in range(rng.randint(2, 10)):
        pairs = (rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(1, 4)))
        words.append("".join(pairs))
    return " ".join(words)


def _consonants(rng: random.Random) -> str:
    return " ".join(
        "".join(rng.choices("bcdfghjklmnpqrstvwxz", k=rng.randint(2, 8))) for _ in range(rng.randint(1, 8))
    )


def _symbols(rng: random.Random) -> str:
    return "".join(rng.choices("~^%&@#$*+=|<>{}[]!?;:§°¬", k=rng.randint(5, 40)))


_TRAINED = (_keyboard, _repeated, _letters)
_MEASURED = (_syllables, _consonants, _symbols)


def _gibberish(kinds: tuple[Callable[[random.Random], str], ...], data: Path) -> Iterator[Item]:
    del data  # made here
    rng = random.Random(f"gibberish {len(kinds)} {kinds[0].__name__}")
    for number in range(_NUM_GIBBERISH):
        yield Item(text=kinds[number % len(kinds)](rng), verbatim=True)


def _source(
    name: str, public_name: str, role: Role, load: partial[Iterator[Item]], weight: float = 1.0
) -> Source:
    return Source(name=name, public_name=public_name, intent=GENERAL, role=role, load=load, weight=weight)


_CLINC = "clinc/clinc_oos"
SOURCES = (
    _source("gibberish", "made by this project", Role.TRAIN, partial(_gibberish, _TRAINED)),
    _source("gibberish_unseen", "made by this project", Role.OUT_OF_SCOPE, partial(_gibberish, _MEASURED)),
    _source("clinc_oos", f"{_CLINC}, out-of-scope split", Role.OUT_OF_SCOPE, partial(_clinc_split)),
    _source("clinc_travel", f"{_CLINC}, travel", Role.OUT_OF_SCOPE, partial(_clinc_domain, "travel")),
    _source(
        "clinc_cars",
        f"{_CLINC}, auto and commute",
        Role.OUT_OF_SCOPE,
        partial(_clinc_domain, "auto_and_commute"),
    ),
)
