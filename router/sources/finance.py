"""Finance: questions on reports and their tables, and the news."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from router.item import Item, Role, Source
from router.sources.reading import read_csv, read_json, read_json_lines

_PASSAGE_CHARS = 900  # the delegator reads head and tail; more would only cost time

_HEADLINE_QUESTIONS = (
    "Does the headline say the price of gold went up, down, or stayed the same?",
    "Is the sentiment of this news positive, negative or neutral?",
    "What is the sentiment of this headline?",
    "Does this news talk about the price going up? Yes or No.",
    "How might this affect the market?",
    "Classify the financial headline.",
    "Summarize what happened to the market.",
)


def _table(rows: list[list[str]]) -> str:
    return "\n".join(" | ".join(cell.strip() for cell in row) for row in rows)


def _tatqa_items(contexts: list[dict[str, Any]]) -> Iterator[Item]:
    for context in contexts:
        table = _table(context["table"]["table"])[:_PASSAGE_CHARS]
        text = "\n".join(p["text"] for p in context["paragraphs"])[:_PASSAGE_CHARS]
        for number, question in enumerate(context["questions"]):
            shown = (table, f"{table}\n\n{text}", text, "")[number % 4]
            yield Item(text=question["question"].strip(), context=shown)


def _tatqa(data: Path) -> Iterator[Item]:
    yield from _tatqa_items(read_json(data / "tatqa/tatqa_dataset_dev.json.gz"))


def _tatqa_gold(data: Path) -> Iterator[Item]:
    yield from _tatqa_items(list(read_json_lines(data / "tatqa/test_gold_even.jsonl")))


def _finqa(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "finqa_questions/finqa_test.jsonl"):
        yield Item(text=row["question"].strip())


def _headlines(data: Path) -> Iterator[Item]:
    for number, row in enumerate(read_csv(data / "gold_headlines/headlines_train.csv")):
        headline = row[0].removeprefix("Q: ").removesuffix("\nA:").strip()
        if number % 3 == 0:
            yield Item(text=headline)
        else:
            yield Item(text=_HEADLINE_QUESTIONS[number % len(_HEADLINE_QUESTIONS)], context=headline)


def _convfinqa(data: Path) -> Iterator[Item]:
    for number, row in enumerate(read_json(data / "convfinqa/convfinqa_dev.json.gz")):
        table, text = row["table"][:_PASSAGE_CHARS], row["text"][:_PASSAGE_CHARS]
        shown = (table, f"{text}\n\n{table}", "")[number % 3]
        yield Item(text=row["questions"][0].strip(), context=shown)


def _source(name: str, public_name: str, role: Role, load: partial[Iterator[Item]]) -> Source:
    return Source(name=name, public_name=public_name, intent="finance", role=role, load=load)


SOURCES = (
    _source("tatqa", "next-tat/TAT-QA", Role.TRAIN, partial(_tatqa)),
    _source("finqa", "ibm/finqa, questions", Role.TRAIN, partial(_finqa)),
    _source("headlines", "gold news headlines (FrugalGPT's copy)", Role.TRAIN, partial(_headlines)),
    _source("convfinqa", "TIGER-Lab's copy of ConvFinQA", Role.HELD_OUT, partial(_convfinqa)),
    _source("tatqa_gold", "next-tat/TAT-QA", Role.EVAL, partial(_tatqa_gold)),
)
