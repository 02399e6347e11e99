"""Where training prompts come from: one loader per public set, and the list of them all."""

from router.item import Source
from router.sources import (
    commonsense,
    composed,
    conversation,
    finance,
    mathematics,
    out_of_scope,
    programming,
    spanish,
    trivia,
)

ALL_SOURCES: tuple[Source, ...] = (
    *mathematics.SOURCES,
    *programming.SOURCES,
    *commonsense.SOURCES,
    *trivia.SOURCES,
    *finance.SOURCES,
    *spanish.SOURCES,
    *conversation.SOURCES,
    *composed.SOURCES,
    *out_of_scope.SOURCES,
)
