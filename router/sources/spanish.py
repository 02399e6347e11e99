"""Spanish: questions on passages, exams and chat, whatever their subject."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from router.item import Item, Role, Source
from router.sources.reading import read_json, read_json_lines

_SPANISH_MARKS = ("¿", "¡", " que ", " los ", " las ", " una ", " para ", " por ", " cómo ", " el ", " un ")


def is_spanish(text: str) -> bool:
    """Whether a text carries at least two marks of Spanish; good enough to sort OpenAssistant's prompts."""
    padded = f" {text.lower()} "
    return sum(mark in padded for mark in _SPANISH_MARKS) >= 2


def _squad(data: Path) -> Iterator[Item]:
    for number, row in enumerate(read_json_lines(data / "es_squad/squad_es.jsonl.gz")):
        yield Item(text=row["question"].strip(), context=row["context"].strip() if number % 3 == 0 else "")


def _headqa(name: str, data: Path) -> Iterator[Item]:
    for exam in read_json(data / name)["exams"].values():
        for row in exam["data"]:
            options = tuple(answer["atext"].strip() for answer in row["answers"])
            yield Item(text=row["qtext"].strip(), options=options)


def _octopack(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "oasst_octopack/oasstcommitpackftmanual.jsonl.gz"):
        if is_spanish(row["prompt"]):
            yield Item(text=row["prompt"].strip())


def _chatterbot(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "es_chatterbot/chatterbot_spanish.jsonl"):
        yield Item(text=row["turns"][0].strip())


def _mifeval(data: Path) -> Iterator[Item]:
    for row in read_json_lines(
        data / "es_mifeval/es_input_response_data_Qwen__Qwen2.5-32B-Instruct-GPTQ-Int4.jsonl"
    ):
        yield Item(text=row["prompt"].strip())


def _source(
    name: str, public_name: str, role: Role, load: partial[Iterator[Item]], weight: float = 1.0
) -> Source:
    return Source(name=name, public_name=public_name, intent="spanish", role=role, load=load, weight=weight)


SOURCES = (
    _source("squad_es", "ccasimiro/squad_es", Role.TRAIN, partial(_squad)),
    _source("headqa", "dvilares/head_qa", Role.TRAIN, partial(_headqa, "es_headqa/train_HEAD.json.gz")),
    _source("headqa_dev", "dvilares/head_qa", Role.TRAIN, partial(_headqa, "es_headqa/dev_HEAD.json"), 0.5),
    _source("octopack_es", "bigcode/oasst-octopack, in Spanish", Role.TRAIN, partial(_octopack), 2.0),
    _source("chatterbot_es", "gunthercox/chatterbot-corpus", Role.HELD_OUT, partial(_chatterbot)),
    _source("mifeval_es", "lightblue/m-ifeval", Role.HELD_OUT, partial(_mifeval)),
    _source("headqa_test", "dvilares/head_qa", Role.EVAL, partial(_headqa, "es_headqa/test_HEAD.json.gz")),
)
