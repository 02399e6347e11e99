"""The corpus is clean and even; held-out sources stay whole."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from router.dataset import Corpus, DatasetConfig, held_out_prompts, load_corpus, training_prompts
from router.intents import INTENTS
from router.item import Item, Role, Source
from router.sources import ALL_SOURCES

LONG = (
    "the train leaves the station at noon and reaches the next town after two hours and ten minutes of travel"
)
SMALL = DatasetConfig(per_intent=60, per_source=5)


def _items(texts: list[str], data: Path) -> Iterator[Item]:
    for text in texts:
        yield Item(text=text)


def _source(name: str, intent: str, role: Role, texts: list[str]) -> Source:
    return Source(name=name, public_name=name, intent=intent, role=role, load=partial(_items, texts))


@pytest.fixture
def corpus() -> Corpus:
    sources = [
        _source("m1", "math", Role.TRAIN, ["1+1", "1 + 1!", "  ", "2+2", LONG, "how much is it"]),
        _source("m2", "math", Role.HELD_OUT, [f"Question: {LONG}", *(f"held {n}" for n in range(9))]),
        _source("c1", "code", Role.TRAIN, ["write code", "held 3"]),
        _source("c2", "code", Role.EVAL, ["HOW MUCH is it?"]),
    ]
    return load_corpus(Path(), sources)


def test_duplicates_leaks_and_empty_texts_are_dropped(corpus: Corpus):
    assert [item.text for item in corpus.items["m1"]] == ["1+1", "2+2"]
    assert [item.text for item in corpus.items["c1"]] == ["write code"]
    assert corpus.dropped == {"duplicate": 1, "leak": 3}


def test_each_intent_gets_its_share(corpus: Corpus):
    prompts = training_prompts(corpus, SMALL, epoch=0)
    assert Counter(prompt.intent for prompt in prompts) == {"math": 60, "code": 60}
    assert {prompt.source for prompt in prompts} == {"m1", "c1"}


def test_epochs_differ_and_runs_do_not(corpus: Corpus):
    first = training_prompts(corpus, SMALL, epoch=0)
    assert training_prompts(corpus, SMALL, epoch=0) == first
    assert training_prompts(corpus, SMALL, epoch=1) != first


def test_second_turns_have_history(corpus: Corpus):
    always = DatasetConfig(per_intent=40, second_turn=1.0)
    assert all(prompt.history for prompt in training_prompts(corpus, always, epoch=0))
    never = DatasetConfig(per_intent=40, second_turn=0.0)
    assert not any(prompt.history for prompt in training_prompts(corpus, never, epoch=0))


def test_held_out_prompts_are_few_and_the_same(corpus: Corpus):
    prompts = held_out_prompts(corpus, SMALL, Role.HELD_OUT)
    assert len(prompts) == 5
    assert prompts == held_out_prompts(corpus, SMALL, Role.HELD_OUT)
    assert [p.intent for p in held_out_prompts(corpus, SMALL, Role.EVAL)] == ["code"]


def test_the_list_of_sources_is_sound():
    assert len({source.name for source in ALL_SOURCES}) == len(ALL_SOURCES)
    for intent in INTENTS:
        roles = Counter(source.role for source in ALL_SOURCES if source.intent == intent)
        assert roles[Role.TRAIN] >= 2 and roles[Role.HELD_OUT] >= 1, intent
