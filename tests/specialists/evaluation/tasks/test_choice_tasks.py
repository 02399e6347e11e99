"""The loaders of the multiple-choice sets, each on a row of its file's form."""

from pathlib import Path
from typing import Any

import pytest

from specialists.evaluation.task_registry import get_task
from specialists.evaluation.tasks.aqua import AQuA
from specialists.evaluation.tasks.headqa import HeadQA
from tests.specialists.evaluation.tasks.rows import write_json, write_jsonl

SCIENCE = (
    "Please choose the correct answer to the question: What melts ice?\n\nAnswer1: a warm day Answer2: a rock "
    "Answer3: the moon Answer4: sand\n\nAnswer format: answer1/answer2/answer3/answer4"
)
YES_NO = "Please answer the following question with true or false, question: is ice cold?\n\nAnswer format: true/false"
COMMONSENSE = {
    "answerKey": "B",
    "question": {
        "stem": "Where do fish live?",
        "choices": [{"label": "A", "text": "tree"}, {"label": "B", "text": "sea"}],
    },
}
SOCIAL = {
    "context": "Ann left.",
    "question": "How would Ann feel?",
    "answerA": "glad",
    "answerB": "sad",
    "answerC": "cold",
    "correct": "C",
}


@pytest.mark.parametrize(
    ("task", "file", "row", "stem", "options", "letter", "category"),
    [
        ("winogrande", "winogrande/dev_even.jsonl",
         {"qID": "X-1", "sentence": "Ann saw Bea when _ waved.", "option1": "Ann", "option2": "Bea", "answer": "2"},
         "Ann saw Bea when _ waved.", ("Ann", "Bea"), "B", ""),
        ("commonsenseqa", "commonsenseqa/dev_even.jsonl", COMMONSENSE, "Where do fish live?", ("tree", "sea"), "B", "where"),
        ("socialiqa", "socialiqa/dev_even.jsonl", SOCIAL, "Ann left. How would", ("glad", "sad", "cold"), "C", "feel"),
        ("aqua", "aqua/aqua_test.jsonl",
         {"question": "1+1?", "options": ["A)1", "B)2", "C) 3"], "correct": "B", "rationale": "Add."},
         "1+1?", ("1", "2", "3"), "B", ""),
    ],
)  # fmt: skip
def test_sets_with_a_test_split(
    tmp_path: Path, task: str, file: str, row: Any, stem: str, options: tuple[str, ...], letter: str, category: str
):  # fmt: skip
    write_jsonl(tmp_path, file, [row])
    (item,) = get_task(task).load(tmp_path)
    assert item.stem.startswith(stem)
    assert (item.options, item.letter, item.category) == (options, letter, category)
    assert item.id == f"{task}/test/0"


@pytest.mark.parametrize(
    ("task", "file", "row", "options", "letter"),
    [
        ("openbookqa", "openbookqa/openbookqa_train.json.gz", {"instruction": SCIENCE, "answer": "answer1"},
         ("a warm day", "a rock", "the moon", "sand"), "A"),
        ("arc_easy", "arc_easy/arc_easy_train.json.gz", {"instruction": SCIENCE, "answer": "answer4"},
         ("a warm day", "a rock", "the moon", "sand"), "D"),
        ("arc_challenge", "arc_challenge/arc_challenge_train.json", {"instruction": SCIENCE, "answer": "answer3"},
         ("a warm day", "a rock", "the moon", "sand"), "C"),
        ("boolq", "boolq/boolq_train.json.gz", {"instruction": YES_NO, "answer": "true"}, ("Yes", "No"), "A"),
    ],
)  # fmt: skip
def test_sets_for_training_only(
    tmp_path: Path, task: str, file: str, row: Any, options: tuple[str, ...], letter: str
):
    write_json(tmp_path, file, [row])
    items = get_task(task, "train").load(tmp_path) + get_task(task, "val").load(tmp_path)
    assert [(item.options, item.letter) for item in items] == [(options, letter)]


def test_trivia_options(tmp_path: Path):
    row = {"question": "Which one?", "options": ["x", "y"], "answer": "y", "category": "music"}
    write_jsonl(tmp_path, "opentriviaqa/opentriviaqa.jsonl.gz", [row])
    (item,) = get_task("opentriviaqa", "train").load(tmp_path)
    assert (item.options, item.letter, item.category) == (("x", "y"), "B", "music")


def test_headlines(tmp_path: Path):
    (tmp_path / "gold_headlines").mkdir()
    (tmp_path / "gold_headlines/headlines_train.csv").write_text('"Q: gold dips, again\nA:",down,12\n')
    (item,) = get_task("headlines", "train").load(tmp_path)
    assert '"gold dips, again"' in item.stem
    assert (item.letter, item.category) == ("B", "down")


def exam(*questions: dict[str, Any]) -> dict[str, Any]:
    return {"exams": {"one": {"category": "biology", "data": list(questions)}}}


def asked(text: str, image: str = "") -> dict[str, Any]:
    answers = [{"aid": number, "atext": f"respuesta {number} "} for number in (1, 2, 3)]
    return {"qid": "1", "qtext": text, "ra": "3", "answers": answers, "image": image}


def test_headqa_trains_on_no_picture_and_on_nothing_the_test_asks(tmp_path: Path):
    write_json(
        tmp_path, "es_headqa/test_HEAD.json.gz", exam(asked("¿Qué es  esto?"), asked("¿Y esto?", "foto.png"))
    )
    train = exam(asked("¿Qué es esto?"), asked("¿Cuántos son?"), asked("¿Quién?", "foto.png"))
    write_json(tmp_path, "es_headqa/train_HEAD.json.gz", train)
    write_json(tmp_path, "es_headqa/dev_HEAD.json", exam(asked("¿Dónde?")))
    test = HeadQA().load(tmp_path)
    assert [item.stem for item in test] == ["¿Qué es  esto?", "¿Y esto?"]
    assert (test[0].letter, test[0].options[2], test[0].category) == ("C", "respuesta 3", "biology")
    learned = HeadQA("train").load(tmp_path) + HeadQA("val").load(tmp_path)
    assert {item.stem for item in learned} == {"¿Cuántos son?", "¿Dónde?"}
    assert "letra" in HeadQA().prompt(test[0])[0]["content"]


def test_aqua_reasons_and_ends_with_the_letter(tmp_path: Path):
    rationale = "1 + 1 = 2\nso two it is.\n\nCorrect answer - B"
    row = {"question": "1+1?", "options": ["A)1", "B)2"], "correct": "B", "rationale": rationale}
    write_jsonl(tmp_path, "aqua/aqua_test.jsonl", [row])
    task = AQuA()
    (item,) = task.load(tmp_path)
    assert task.reference(item) == "1 + 1 = 2\nso two it is.\nAnswer: B"
    assert task.grade(item, task.reference(item)).well_formed
    loose = task.grade(item, "It is 2, so the answer is (B).")
    assert (loose.correct, loose.well_formed) == (True, False)
    assert task.rewrite(item, "1 + 1 = 2\nThe answer is B.") == "1 + 1 = 2\nAnswer: B"
    assert task.rewrite(item, "1 + 1 = 1\nThe answer is A.") is None
