"""Knowledge: factual questions with a short answer."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from router.item import Item, Role, Source
from router.sources.reading import read_json, read_json_lines

_FACTOID = re.compile(
    r"^(who|whose|when|where|which|in (which|what)|what (is|was|are|were) the (name|capital|"
    r"largest|tallest|longest|smallest|first|last|highest)|"
    r"what (year|country|city|state|color|team|band|actor|animal)|how many)\b",
    re.IGNORECASE,
)


def is_factoid(question: str, response: str) -> bool:
    """Whether a question asks for one fact: it opens like one and was answered in one short line."""
    return bool(_FACTOID.match(question)) and len(response) < 80 and len(question) < 200


def _triviaqa(name: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        yield Item(text=row["context"].removeprefix("Question: ").removesuffix("\nAnswer:").strip())


def _nq(name: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        yield Item(text=row["question"].strip())


def _webquestions(name: str, data: Path) -> Iterator[Item]:
    for row in read_json(data / name):
        yield Item(text=row["qText"].strip())


def _opentrivia(data: Path) -> Iterator[Item]:
    rows = list(read_json_lines(data / "opentriviaqa/opentriviaqa.jsonl.gz"))
    for row in rows[::4]:  # a quarter of 49,000 is plenty and four times quicker to check for leaks
        if row["category"] != "brain-teasers":
            yield Item(text=row["question"].strip(), options=tuple(row["options"]))


def _dolly_factoids(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "dolly15k/databricks-dolly-15k.jsonl.gz"):
        if row["category"] == "open_qa" and is_factoid(row["instruction"], row["response"]):
            yield Item(text=row["instruction"].strip())


def _hotpotqa(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "t0_samples/t0_qa_samples.jsonl"):
        if row["template"].startswith("kilt_tasks_hotpotqa"):
            yield Item(text=row["prompt"].strip().split("\n")[-1])


def _llmrouter(task: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "llmrouter_queries/train.jsonl.gz"):
        if row["task_name"] == task:
            yield Item(text=row["query"].strip())


def _chatterbot_trivia(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "en_chatterbot/chatterbot_english.jsonl"):
        if row["topic"] == "trivia" and len(row["turns"][0].split()) > 2:
            yield Item(text=row["turns"][0])


def _source(
    name: str, public_name: str, role: Role, load: partial[Iterator[Item]], weight: float = 1.0
) -> Source:
    return Source(name=name, public_name=public_name, intent="knowledge", role=role, load=load, weight=weight)


SOURCES = (
    _source(
        "triviaqa", "mandarjoshi/trivia_qa", Role.TRAIN, partial(_triviaqa, "triviaqa/train_1500.jsonl"), 1.5
    ),
    _source(
        "nq_open", "google-research-datasets/nq_open", Role.TRAIN, partial(_nq, "nq_open/dev_even.jsonl")
    ),
    _source(
        "efficientqa",
        "google-research-datasets/natural-questions, EfficientQA",
        Role.TRAIN,
        partial(_nq, "nq_open/NQ-open.efficientqa.dev.1.1.jsonl"),
    ),
    _source("opentriviaqa", "uberspot/OpenTriviaQA", Role.TRAIN, partial(_opentrivia), 0.6),
    _source(
        "dolly_factoids", "databricks/databricks-dolly-15k, open_qa", Role.TRAIN, partial(_dolly_factoids)
    ),
    _source("llmrouter_trivia", "LLMRouter's TriviaQA", Role.TRAIN, partial(_llmrouter, "trivia_qa")),
    _source(
        "webquestions",
        "stanfordnlp/web_questions",
        Role.TRAIN,
        partial(_webquestions, "webquestions/trainmodel.json"),
    ),
    _source("hotpotqa", "hotpotqa/hotpot_qa, closed book", Role.HELD_OUT, partial(_hotpotqa)),
    _source("chatterbot_trivia", "gunthercox/chatterbot-corpus", Role.HELD_OUT, partial(_chatterbot_trivia)),
    _source(
        "triviaqa_eval", "mandarjoshi/trivia_qa", Role.EVAL, partial(_triviaqa, "triviaqa/eval_500.jsonl")
    ),
)
