"""TriviaQA, Natural Questions, WebQuestions and Spanish SQuAD: questions, accepted answers, prompts."""

from pathlib import Path

import pytest

from specialists.evaluation.task import TaskDataError
from specialists.evaluation.task_registry import get_task
from specialists.evaluation.tasks.open_trivia import OpenTriviaShort
from specialists.evaluation.tasks.squad_es import SquadEs
from tests.specialists.evaluation.tasks.rows import write_json, write_jsonl


def test_triviaqa(tmp_path: Path):
    row = {
        "context": "Question: Who dares?\nAnswer:",
        "answer": "DAN DARE",
        "aliases": ["DAN DARE", "Dan Dare", "Dan"],
    }
    write_jsonl(tmp_path, "triviaqa/eval_500.jsonl", [row])
    task = get_task("triviaqa")
    (item,) = task.load(tmp_path)
    assert (item.question, item.category) == ("Who dares?", "who")
    assert task.reference(item) == "Dan Dare"
    assert task.grade(item, "Dan").correct
    assert not task.grade(item, "Ann").correct
    assert task.prompt(item)[0]["content"].startswith("Who dares?\n\n")


def test_natural_questions_read_both_files_as_questions(tmp_path: Path):
    write_jsonl(tmp_path, "nq_open/dev_even.jsonl", [{"question": "who won", "answer": ["Ann", "Ann B."]}])
    other = [{"question": f"when was {year} over", "answer": [str(year)]} for year in range(9)]
    write_jsonl(tmp_path, "nq_open/NQ-open.efficientqa.dev.1.1.jsonl", other)
    items = get_task("nq", "train").load(tmp_path) + get_task("nq", "val").load(tmp_path)
    assert len(items) == len({item.id for item in items}) == 10
    assert "Who won?" in {item.question for item in items}


def test_webquestions(tmp_path: Path):
    write_json(tmp_path, "webquestions/val.json", [{"qText": "what is it ?", "answers": ["gold"]}])
    (item,) = get_task("webquestions", "val").load(tmp_path)
    assert (item.question, item.answers) == ("What is it?", ("gold",))


def test_spanish_squad_shows_the_text_and_accepts_any_answer(tmp_path: Path):
    answers = [{"text": ""}, {"text": "la ciudad de Lima"}, {"text": "Lima"}, {"text": "Lima"}]
    row = {"context": "Vive en la ciudad de Lima.", "question": "¿Dónde vive?", "answers": answers}
    write_jsonl(tmp_path, "es_squad/squad_es.jsonl.gz", [row])
    items = SquadEs("train").load(tmp_path) + SquadEs("test").load(tmp_path)
    (item,) = items
    assert item.answers == ("la ciudad de Lima", "Lima")
    content = SquadEs().prompt(item)[0]["content"]
    assert content.startswith("Vive en la ciudad de Lima.\n\n¿Dónde vive?\n\nResponde")
    assert SquadEs().grade(item, "Ciudad de Lima").correct
    assert SquadEs().grade(item, "lima").correct


def test_the_spanish_test_is_whole_documents_kept_from_training(tmp_path: Path):
    rows = [
        {"context": f"Texto {number // 2}.", "question": f"¿{number}?", "answers": [{"text": "uno"}]}
        for number in range(200)
    ]
    write_jsonl(tmp_path, "es_squad/squad_es.jsonl.gz", rows)
    train, test = ({item.context for item in SquadEs(split).load(tmp_path)} for split in ("train", "test"))
    assert len(train) + len(test) == 100 and not train & test
    assert 2 <= len(test) <= 20
    assert SquadEs().splits == ["test", "train"]
    with pytest.raises(TaskDataError, match="squad_es has no 'val' split"):
        SquadEs("val").load(tmp_path)


@pytest.mark.parametrize(
    ("question", "answer", "kept"),
    [
        ("Who wrote Isle of Dogs?", "Patricia Cornwell", True),
        ("In what movie does John Wayne ride?", "The Comancheros", True),
        ("Which of these is not a reindeer?", "Northern caribou", False),
        ("Which of the following was first?", "gold", False),
        ("Nicolas Cage plays Andrew.", "False", False),
        ("Is the sky blue?", "Yes", False),
        ("Who was there?", "All of the above", False),
        ("What happened then?", "He sold the house and went away", False),
    ],
)
def test_open_trivia_without_options_keeps_what_stands_alone(
    tmp_path: Path, question: str, answer: str, kept: bool
):
    row = {"category": "movies", "question": question, "answer": answer, "options": [answer, "other"]}
    write_jsonl(tmp_path, "opentriviaqa/opentriviaqa.jsonl.gz", [row])
    items = [item for split in ("train", "val") for item in OpenTriviaShort(split).load(tmp_path)]
    assert [(item.question, item.answers) for item in items] == ([(question, (answer,))] if kept else [])
