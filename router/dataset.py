"""Builds the delegator's prompts: loads the sources, drops duplicates and leaks, samples evenly, renders.

Held-out and evaluation sources are whole: nothing of them is trained on, and a training text found in one is
dropped.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from router.intents import INTENTS
from router.item import Item, Prompt, Role, Source
from router.leakage import LeakageIndex, fingerprint
from router.noise import perturb
from router.rendering import PLAIN, Layout, follow_up, render
from router.sources import ALL_SOURCES


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """How many prompts, and how rough they are. Probabilities in [0, 1]."""

    seed: int = 20
    per_intent: int = 5000  # training prompts of each intent in an epoch
    per_source: int = 200  # at most, of each held-out or evaluation source
    noise: float = 0.5
    second_turn: float = 0.1
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The sources' items, cleaned. `dropped` counts what was removed from training, by reason."""

    items: Mapping[str, tuple[Item, ...]]
    sources: Mapping[str, Source]
    dropped: Mapping[str, int]

    def of_role(self, role: Role) -> list[Source]:
        """The sources of one role, in the order of the list."""
        return [source for source in self.sources.values() if source.role is role]


def load_corpus(data: Path, sources: Sequence[Source] = ALL_SOURCES) -> Corpus:
    """Reads every source below `data` and removes duplicates and leaks from the training ones.

    Raises SourceFileError naming the file that is missing or malformed.
    """
    loaded = {source.name: [item for item in source.load(data) if item.text.strip()] for source in sources}
    kept_back = [source for source in sources if source.role is not Role.TRAIN]
    index = LeakageIndex(text for s in kept_back for i in loaded[s.name] for text in _bodies(i))
    seen: dict[bytes, str] = {}
    dropped: dict[str, int] = defaultdict(int)
    items: dict[str, tuple[Item, ...]] = {}
    for source in sources:
        if source.role is not Role.TRAIN:
            items[source.name] = _once(loaded[source.name])
            continue
        items[source.name] = tuple(_clean(loaded[source.name], index, seen, dropped))
    return Corpus(items=items, sources={s.name: s for s in sources}, dropped=dict(dropped))


def _bodies(item: Item) -> Iterator[str]:
    # A short question ("What is the total?") recurs innocently; with its context it is one of a kind.
    yield f"{item.text} {item.context}" if item.context else item.text
    if len(item.context) > 60:
        yield item.context


def _once(items: Iterable[Item]) -> tuple[Item, ...]:
    """Each question once: a phrase that a source repeats must not count for many."""
    return tuple({_key(item): item for item in items}.values())


def _key(item: Item) -> bytes:
    return fingerprint(f"{item.text} {item.context} {' '.join(item.options)}")


def _clean(
    items: Iterable[Item], index: LeakageIndex, seen: dict[bytes, str], dropped: dict[str, int]
) -> Iterator[Item]:
    for item in items:
        if any(index.leaks(body) for body in _bodies(item)):
            dropped["leak"] += 1
            continue
        key = _key(item)
        if key in seen:
            dropped["duplicate"] += 1
            continue
        seen[key] = item.text
        yield item


def training_prompts(corpus: Corpus, config: DatasetConfig, epoch: int) -> list[Prompt]:
    """`per_intent` prompts of each intent, freshly drawn and laid out for each epoch, shuffled together."""
    rng = random.Random(f"{config.seed} train {epoch}")
    prompts: list[Prompt] = []
    by_intent = {
        intent: [s for s in corpus.of_role(Role.TRAIN) if s.intent == intent and corpus.items[s.name]]
        for intent in INTENTS
    }
    for sources in by_intent.values():
        if not sources:
            continue
        weights = [s.weight * len(corpus.items[s.name]) ** 0.5 for s in sources]
        for source in rng.choices(sources, weights, k=config.per_intent):
            item = rng.choice(corpus.items[source.name])
            prompts.append(_training_prompt(item, source, config, rng))
    prompts = [_with_turn(prompt, prompts, config, rng) for prompt in prompts]
    rng.shuffle(prompts)
    return prompts


def _training_prompt(item: Item, source: Source, config: DatasetConfig, rng: random.Random) -> Prompt:
    text = render(item, config.layout, rng)
    if not item.verbatim and rng.random() < config.noise:
        text = perturb(text, rng)
    return Prompt(text=text, intent=source.intent, source=source.name)


def _with_turn(
    prompt: Prompt, prompts: Sequence[Prompt], config: DatasetConfig, rng: random.Random
) -> Prompt:
    """Sometimes makes a prompt the second turn of a chat.

    A new subject, or a follow-up on its own subject.
    """
    if rng.random() >= config.second_turn:
        return prompt
    if rng.random() < 0.5:  # the subject changes (or not): the last turn decides
        return Prompt(
            text=prompt.text, intent=prompt.intent, source=prompt.source, history=rng.choice(prompts).text
        )
    text = follow_up(prompt.intent, rng)
    return Prompt(text=text, intent=prompt.intent, source=prompt.source, history=prompt.text)


def held_out_prompts(corpus: Corpus, config: DatasetConfig, role: Role) -> list[Prompt]:
    """At most `per_source` prompts of each source of `role`, plainly laid out; the same in every run."""
    prompts: list[Prompt] = []
    for source in corpus.of_role(role):
        rng = random.Random(f"{config.seed} {source.name}")
        items = corpus.items[source.name]
        prompts += [
            Prompt(text=render(item, PLAIN, rng), intent=source.intent, source=source.name)
            for item in rng.sample(items, min(config.per_source, len(items)))
        ]
    return prompts
