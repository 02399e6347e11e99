"""Damages a message the way hurried people do: lost case and punctuation, typos, stray blank space."""

import random
import string
from collections.abc import Callable

_KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBORS = {
    letter: row[max(0, i - 1) : i] + row[i + 1 : i + 2]
    for row in _KEYBOARD_ROWS
    for i, letter in enumerate(row)
}


def add_typos(text: str, rate: float, rng: random.Random) -> str:
    """Each letter is, with probability `rate`, dropped, doubled, swapped with the next or mistyped."""
    letters = list(text)
    for index, letter in enumerate(letters):
        if letter.isalpha() and rng.random() < rate:
            _damage(letters, index, rng)
    return "".join(letters)


def _damage(letters: list[str], index: int, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        letters[index] = ""
    elif kind == 1:
        letters[index] *= 2
    elif kind == 2 and index + 1 < len(letters):
        letters[index], letters[index + 1] = letters[index + 1], letters[index]
    else:
        letters[index] = rng.choice(_NEIGHBORS.get(letters[index].lower(), letters[index]))


def _without_punctuation(text: str, rng: random.Random) -> str:
    del rng
    return text.rstrip(string.punctuation + " ¿").lstrip("¿¡ ")


def _lower(text: str, rng: random.Random) -> str:
    return _without_punctuation(text.lower(), rng) if rng.random() < 0.5 else text.lower()


def _upper(text: str, rng: random.Random) -> str:
    del rng
    return text.upper()


def _typos(text: str, rng: random.Random) -> str:
    return add_typos(text, rng.choice((0.01, 0.03, 0.06, 0.1)), rng)


def _blank_space(text: str, rng: random.Random) -> str:
    return rng.choice(("\n", "  ", "\n\n")) + text.replace(" ", "  ", 3) + rng.choice(("", "\n", "   "))


def _one_line(text: str, rng: random.Random) -> str:
    del rng
    return " ".join(text.split())


def _unaccented(text: str, rng: random.Random) -> str:
    del rng
    return text.translate(str.maketrans("áéíóúüñÁÉÍÓÚ", "aeiouunAEIOU")).replace("¿", "").replace("¡", "")


PERTURBATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "lower": _lower,
    "upper": _upper,
    "typos": _typos,
    "blank_space": _blank_space,
    "no_punctuation": _without_punctuation,
    "one_line": _one_line,
    "unaccented": _unaccented,
}
_WEIGHTS = (4, 0.5, 11, 1, 4, 1, 1.5)


def perturb(text: str, rng: random.Random) -> str:
    """One perturbation drawn at random; the original when it would leave nothing."""
    name = rng.choices(list(PERTURBATIONS), _WEIGHTS)[0]
    return PERTURBATIONS[name](text, rng).strip("\x00") or text
