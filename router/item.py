"""What a source yields and what the classifier sees.

Items before and prompts after rendering. No I/O, no torch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question of a source, in parts, so that rendering can lay it out in many ways."""

    text: str
    options: tuple[str, ...] = ()
    context: str = ""  # what the text is about: a passage, a table, code
    verbatim: bool = False  # the text's layout is its point (code to complete): no wrapping, no typos


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One labeled classifier input: the user's message, and the user's message before it where there is
    one.
    """

    text: str
    intent: str
    source: str
    history: str = ""


class Role(StrEnum):
    """What a source may be used for."""

    TRAIN = "train"
    HELD_OUT = "held_out"  # never trained on; temperature and threshold are fitted here
    OUT_OF_SCOPE = "out_of_scope"  # never trained on; no specialist should take them
    EVAL = "eval"  # rows the data's README marks eval: reported only, neither trained nor tuned on


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One set of prompts with one intent. `public_name` is where anyone finds the set."""

    name: str
    public_name: str
    intent: str
    role: Role
    load: Callable[[Path], Iterator[Item]]
    weight: float = 1.0  # of this source among its intent's sources, times the square root of its size
