"""The project's own templates fill without a missing slot, the same in every run."""

import random
from pathlib import Path

import pytest

from router.intents import INTENTS
from router.item import Source
from router.sources import composed
from router.sources.composed import fill


def test_fill():
    text = fill("{{{x}}} has {n} of {big}", {"x": ["y"]}, random.Random(0))
    assert text.startswith("{y} has ") and "{n}" not in text
    with pytest.raises(KeyError, match="unknown"):
        fill("{unknown}", {}, random.Random(0))


def test_every_intent_is_composed():
    assert [source.intent for source in composed.SOURCES] == list(INTENTS)


@pytest.mark.parametrize("source", composed.SOURCES, ids=lambda source: source.name)
def test_the_templates_fill(source: Source):
    items = list(source.load(Path()))
    assert len(items) > 300
    assert items == list(source.load(Path()))
    assert all(item.text.strip() for item in items)
