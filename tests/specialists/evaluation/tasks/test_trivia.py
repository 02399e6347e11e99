"""TriviaQA, Natural Questions, WebQuestions and Spanish SQuAD: questions, accepted answers, prompts."""

from pathlib import Path

from specialists.evaluation.task_registry import get_task
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
    items = SquadEs("train").load(tmp_path) + SquadEs("val").load(tmp_path)
    (item,) = items
    assert item.answers == ("la ciudad de Lima", "Lima")
    content = SquadEs().prompt(item)[0]["content"]
    assert content.startswith("Vive en la ciudad de Lima.\n\n¿Dónde vive?\n\nResponde")
    assert SquadEs().grade(item, "Ciudad de Lima").correct
    assert SquadEs().grade(item, "lima").correct
