"""Finds the same question twice: inside the training sources, and between training and evaluation.

Two texts are the same when their letters and digits are, whatever their case, accents, spacing and punctuation.
A training text leaks when it is an evaluation text, or when half of it is made of evaluation texts' word runs.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_SHINGLE_WORDS = 12  # long enough that two different questions hardly ever share one
_SHARED_LIMIT = (
    0.5  # of a text's shingles; stock phrases ("Express your answer as a common fraction") stay below
)


def normalize(text: str) -> str:
    """Lower-case letters and digits only, single spaces, no accents."""
    lowered = text.lower()
    if not lowered.isascii():
        # Decomposing can bring capitals back ("\u210b" is a script H), so they are lowered after it.
        plain = unicodedata.normalize("NFKD", lowered).lower()
        lowered = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(_NOT_ALPHANUMERIC.sub(" ", lowered).split())


def fingerprint(text: str) -> bytes:
    """Eight bytes that equal texts (after `normalize`) share."""
    same = normalize(text) or text  # without letters or digits the signs themselves are the text
    return hashlib.blake2b(same.encode("utf-8", "replace"), digest_size=8).digest()


def _shingles(text: str) -> list[int]:
    words = normalize(text).split()
    return [hash(tuple(words[i : i + _SHINGLE_WORDS])) for i in range(len(words) - _SHINGLE_WORDS + 1)]


class LeakageIndex:
    """The evaluation texts, ready to say whether a training text is one of them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._exact: set[bytes] = set()
        self._shingles: set[int] = set()
        for text in texts:
            self._exact.add(fingerprint(text))
            self._shingles.update(_shingles(text))

    def leaks(self, text: str) -> bool:
        """Whether `text` equals an evaluation text or shares half of its 12-word runs with them."""
        if fingerprint(text) in self._exact:
            return True
        shingles = _shingles(text)
        shared = sum(shingle in self._shingles for shingle in shingles)
        return bool(shingles) and shared >= _SHARED_LIMIT * len(shingles)
