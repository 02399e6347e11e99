"""Commonsense: elementary science, everyday physics, social situations, pronouns."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from router.item import Item, Role, Source
from router.sources.reading import read_json, read_json_lines, split_numbered_options

_TRAIN_WINOGRANDE = "winogrande/winogrande_train_l.jsonl.gz"


def _numbered(name: str, data: Path) -> Iterator[Item]:
    for row in read_json(data / name):
        stem, options = split_numbered_options(row["instruction"])
        yield Item(text=stem.partition(": ")[2].strip(), options=options)


def _boolq(data: Path) -> Iterator[Item]:
    for row in read_json(data / "boolq/boolq_train.json.gz"):
        yield Item(
            text=row["instruction"].partition("question: ")[2].partition("\n\nAnswer format")[0].strip()
        )


def _winogrande(name: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        yield Item(text=row["sentence"].strip(), options=(row["option1"], row["option2"]))


def _continuations(data: Path) -> Iterator[Item]:
    """WinoGrande sentences cut at their connective, with the tails of other sentences as wrong endings."""
    tails: list[str] = []
    for number, row in enumerate(read_json_lines(data / _TRAIN_WINOGRANDE)):
        sentence = row["sentence"].replace("_", row[f"option{row['answer']}"])
        match = re.search(r",? (because|so|but|since|when|while|and) ", sentence)
        if match is None:
            continue
        head, tail = sentence[: match.start()], sentence[match.end() :]
        if len(head) < 25:
            continue
        if len(tails) >= 3 and number % 3 == 0:
            yield _continuation(number, head, match[1], (tail, *tails[-3:]))
        tails.append(tail)


def _continuation(number: int, head: str, connective: str, tails: tuple[str, ...]) -> Item:
    kind = number % 4
    options = tails[: 2 + number % 3]
    if kind == 0:
        return Item(text=f"{head} {connective} ...", options=options)
    if kind == 1 and connective in {"because", "since"}:
        return Item(text=f"{head}. What was the cause of this?", options=options)
    if kind == 2:
        return Item(text=f"{head}. What happens next?", options=options)
    return Item(text=f"{head}, {connective}", options=options)


def _csqa(name: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        question = row["question"]
        yield Item(text=question["stem"].strip(), options=tuple(c["text"] for c in question["choices"]))


def _socialiqa(name: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        options = (row["answerA"], row["answerB"], row["answerC"])
        yield Item(text=f"{row['context'].strip()} {row['question'].strip()}", options=options)


def _t0(template: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "t0_samples/t0_qa_samples.jsonl"):
        if row["template"].startswith(template):
            yield Item(text=row["prompt"].strip())


def _llmrouter(task: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "llmrouter_queries/train.jsonl.gz"):
        if row["task_name"] == task:
            yield Item(text=row["query"].strip())


def _source(
    name: str, public_name: str, role: Role, load: partial[Iterator[Item]], weight: float = 1.0
) -> Source:
    return Source(
        name=name, public_name=public_name, intent="commonsense", role=role, load=load, weight=weight
    )


SOURCES = (
    _source(
        "arc_easy",
        "allenai/ai2_arc, ARC-Easy",
        Role.TRAIN,
        partial(_numbered, "arc_easy/arc_easy_train.json.gz"),
    ),
    _source(
        "arc_challenge",
        "allenai/ai2_arc, ARC-Challenge",
        Role.TRAIN,
        partial(_numbered, "arc_challenge/arc_challenge_train.json"),
    ),
    _source(
        "openbookqa",
        "allenai/openbookqa",
        Role.TRAIN,
        partial(_numbered, "openbookqa/openbookqa_train.json.gz"),
    ),
    _source("boolq", "google/boolq", Role.TRAIN, partial(_boolq), 0.4),
    _source("winogrande", "allenai/winogrande", Role.TRAIN, partial(_winogrande, _TRAIN_WINOGRANDE)),
    _source(
        "winogrande_endings", "allenai/winogrande, cut at the connective", Role.TRAIN, partial(_continuations)
    ),
    _source(
        "commonsenseqa",
        "tau/commonsense_qa",
        Role.TRAIN,
        partial(_csqa, "commonsenseqa/train_rand_split.jsonl.gz"),
    ),
    _source("sciq", "allenai/sciq in T0's templates", Role.TRAIN, partial(_t0, "sciq_Multiple")),
    _source("qasc", "allenai/qasc in T0's templates", Role.HELD_OUT, partial(_t0, "qasc")),
    _source(
        "llmrouter_obqa", "LLMRouter's OpenBookQA stems", Role.TRAIN, partial(_llmrouter, "openbook_qa"), 0.3
    ),
    _source("llmrouter_arc", "LLMRouter's ARC stems", Role.TRAIN, partial(_llmrouter, "arc_challenge"), 0.3),
    _source("quarel", "allenai/quarel in T0's templates", Role.HELD_OUT, partial(_t0, "quarel")),
    _source(
        "socialiqa",
        "allenai/social_i_qa",
        Role.TRAIN,
        partial(_socialiqa, "socialiqa/socialIQa_v1.4_tst.jsonl"),
    ),
    _source(
        "winogrande_dev", "allenai/winogrande", Role.EVAL, partial(_winogrande, "winogrande/dev_even.jsonl")
    ),
    _source(
        "commonsenseqa_dev", "tau/commonsense_qa", Role.EVAL, partial(_csqa, "commonsenseqa/dev_even.jsonl")
    ),
    _source(
        "socialiqa_dev", "allenai/social_i_qa", Role.EVAL, partial(_socialiqa, "socialiqa/dev_even.jsonl")
    ),
)
