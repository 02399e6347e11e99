"""Mathematics: word problems and competition problems."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from router.item import Item, Role, Source
from router.sources.reading import read_json_lines, strip_label


def _field(name: str, field: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        yield Item(text=row[field].strip())


def _short_problems(data: Path) -> Iterator[Item]:
    """GSM8K problems cut down to the two sentences before and with the question.

    Shorter than GSM8K ever is.
    """
    for row in read_json_lines(data / "gsm8k/train.jsonl.gz"):
        sentences = row["question"].strip().replace("? ", "?|").replace(". ", ".|").split("|")
        if len(sentences) > 3:
            yield Item(text=" ".join(sentences[-3:]))


def _aqua(name: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        yield Item(text=row["question"].strip(), options=tuple(strip_label(o) for o in row["options"]))


def _mathqa(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "mathqa/mathqa_test.jsonl"):
        lines = row["query"].removeprefix("Question: ").removesuffix("Answer: ").strip().split("\n")
        options = tuple(strip_label(strip_label(line)) for line in lines[-4:])
        yield Item(text="\n".join(lines[:-4]), options=options)


def _llmrouter(task: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "llmrouter_queries/train.jsonl.gz"):
        if row["task_name"] == task:
            yield Item(text=row["query"].strip())


def _source(
    name: str, public_name: str, role: Role, load: partial[Iterator[Item]], weight: float = 1.0
) -> Source:
    return Source(name=name, public_name=public_name, intent="math", role=role, load=load, weight=weight)


SOURCES = (
    _source("gsm8k", "openai/gsm8k", Role.TRAIN, partial(_field, "gsm8k/train.jsonl.gz", "question")),
    _source("gsm8k_short", "openai/gsm8k, last sentences", Role.TRAIN, partial(_short_problems), 0.4),
    _source(
        "math_train",
        "hendrycks/competition_math",
        Role.TRAIN,
        partial(_field, "math/math_train_answers.jsonl.gz", "problem"),
    ),
    _source("mathqa", "allenai/math_qa", Role.TRAIN, partial(_mathqa)),
    _source("aqua_dev", "deepmind/aqua_rat", Role.HELD_OUT, partial(_aqua, "aqua/aqua_dev.jsonl")),
    _source("aqua_test", "deepmind/aqua_rat", Role.EVAL, partial(_aqua, "aqua/aqua_test.jsonl")),
    _source(
        "gsm8k_test", "openai/gsm8k", Role.EVAL, partial(_field, "gsm8k/test_first660.jsonl", "question")
    ),
    _source(
        "math500", "HuggingFaceH4/MATH-500", Role.EVAL, partial(_field, "math/math500_even.jsonl", "problem")
    ),
    _source(
        "aime2024", "Maxwell-Jia/AIME_2024", Role.EVAL, partial(_field, "aime_amc/aime2024.jsonl", "problem")
    ),
)
