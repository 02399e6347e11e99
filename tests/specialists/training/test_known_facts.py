"""Known facts: the probability read from packs is that of the plain model, and the questions above the bound are written."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from specialists.evaluation.short_answer import ShortItem
from specialists.evaluation.tasks.trivia import TriviaQA
from specialists.tokenizer import ChatTokenizer
from specialists.training.known_facts import main, model_reader, read_facts

ITEMS = [
    ShortItem(f"triviaqa/train/{n}", f"Who wrote book number {n}?", answers)
    for n, answers in enumerate([("Dan Dare", "Dare"), ("Mary",), ("a long name of many words",)] * 3)
]


def plain_probability(folder: Path, tokenizer: ChatTokenizer, prompt: str, answer: str) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    turn = [{"role": "user", "content": prompt}]
    asked = tokenizer.encode_chat(turn)
    whole = tokenizer.encode_chat(
        [*turn, {"role": "assistant", "content": answer}], add_generation_prompt=False
    )
    length = len(tokenizer.encode(answer))
    with torch.inference_mode():
        logits = model(torch.tensor([whole])).logits[0].float().log_softmax(-1)
    places = range(len(asked), len(asked) + length)
    return float(sum(logits[place - 1, whole[place]] for place in places).exp())


def test_a_probability_is_that_of_the_plain_model(tiny_qwen2: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(tiny_qwen2)
    facts = list(read_facts(TriviaQA("train"), ITEMS, tokenizer, model_reader(tiny_qwen2, "none")))
    assert sorted(fact.item.id for fact in facts) == [item.id for item in ITEMS]
    for fact in facts[:4]:
        expected = plain_probability(tiny_qwen2, tokenizer, fact.prompt, fact.item.answers[0])
        assert fact.probability == pytest.approx(expected, rel=0.1)


def write_trivia(folder: Path) -> None:
    (folder / "triviaqa").mkdir()
    rows = [
        {"context": f"Question: {item.question}\nAnswer:", "answer": item.answers[0], "aliases": []}
        for item in ITEMS
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "triviaqa" / "train_1500.jsonl").write_text(lines)


def command(base: Path, folder: Path, *more: str) -> list[str]:
    return ["--model", str(base), "--data", str(folder), "--out", str(folder / "known.jsonl"), *more]


def test_questions_above_the_bound_are_written(tiny_qwen2: Path, tmp_path: Path) -> None:
    write_trivia(tmp_path)
    assert main(command(tiny_qwen2, tmp_path, "--task", "triviaqa", "--at-least", "0")) == 0
    everything = [json.loads(line) for line in (tmp_path / "known.jsonl").read_text().splitlines()]
    assert len(everything) > 3 and all(row["prompt"].startswith(row["question"]) for row in everything)
    bound = sorted(row["probability"] for row in everything)[-2] * 0.99
    assert main(command(tiny_qwen2, tmp_path, "--task", "triviaqa", "--at-least", str(bound))) == 0
    kept = [json.loads(line) for line in (tmp_path / "known.jsonl").read_text().splitlines()]
    assert kept == [row for row in everything if row["probability"] >= bound]
    report = json.loads((tmp_path / "known.yield.json").read_text())
    assert (report["num_read"], report["num_kept"]) == (len(everything), len(kept))


@pytest.mark.parametrize(
    ("task", "problem"),
    [("gsm8k", "not answered with a name"), ("triviaqa", "triviaqa/train_1500.jsonl")],
    ids=["another kind of task", "no file"],
)
def test_what_cannot_be_read_is_said(
    tiny_qwen2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, problem: str
) -> None:
    assert main(command(tiny_qwen2, tmp_path, "--task", task)) == 1
    assert problem in "".join(capsys.readouterr().err.split("\n"))
    assert not (tmp_path / "known.jsonl").exists()
