"""The penalty on a favourite letter: what it watches, when it falls due, and that it moves the model away from it."""

import json
from pathlib import Path

import pytest
import torch

from specialists.tokenizer import ChatTokenizer
from specialists.training.data import PromptGroup
from specialists.training.divergence import TeacherTerm
from specialists.training.losses import AnswerTerm, chunked_row_loss
from specialists.training.method_sections import Distill
from specialists.training.packing import Pack, build_pack
from specialists.training.run import train
from specialists.training.run_folders import Folders
from specialists.training.sections import Shortcut
from specialists.training.shortcut import (
    ShortcutError,
    ShortcutTerm,
    TaughtLabels,
    describe,
    first_targets,
    label_tokens,
    offered_labels,
)
from specialists.training.teacher import Lesson

A, B, END = 3, 4, 9
SETTINGS = Shortcut(labels=("A", "B"), weight=2.0, tolerance=0.05)


def make_pack(answers: list[int]) -> Pack:
    return build_pack(
        [PromptGroup((1, 20 + place), ((answer, END),)) for place, answer in enumerate(answers)]
    )


def measure(pack: Pack, likely: list[int], settings: Shortcut = SETTINGS) -> tuple[float, ShortcutTerm]:
    """The penalty when at each answer's start the logit of `likely` stands out by 4."""
    rows = [likely[place // 2] if place % 2 == 0 else END for place in range(len(pack.targets))]
    hidden = 4 * torch.nn.functional.one_hot(torch.tensor(rows), 30).float()
    term = ShortcutTerm(pack, (A, B), settings)
    return float(chunked_row_loss(hidden, torch.eye(30), (term,))), term


def test_answers_as_even_as_the_right_ones_cost_nothing_right_or_wrong() -> None:
    pack = make_pack([A, B, A, B])
    assert measure(pack, [A, B, A, B])[0] == pytest.approx(0.0, abs=1e-3)
    assert measure(pack, [B, A, B, A])[0] == pytest.approx(0.0, abs=1e-3)


def test_a_favourite_costs_by_the_question() -> None:
    loss, term = measure(make_pack([A, B, A, B]), [A, A, A, A])
    assert term.divergence == pytest.approx(0.60, abs=0.05)  # nearly log 2: always one of two
    assert loss == pytest.approx(2.0 * 4 * (term.divergence - 0.05), rel=1e-4)
    assert describe([term]) == {
        "answer_shares": {"A": 1.0},
        "answer_accuracy": 0.5,
        "answer_divergence": round(term.divergence, 4),
    }


def test_a_batch_whose_right_answers_lean_is_no_favourite() -> None:
    assert measure(make_pack([A, A, A, B]), [A, A, A, B])[0] == pytest.approx(0.0, abs=0.02)


def test_answers_that_are_no_letters_count_for_nothing() -> None:
    loss, term = measure(make_pack([15, 16]), [A, A])
    assert (loss, term.divergence) == (0.0, 0.0)


def test_answers_without_any_letter_are_learned_as_if_nobody_watched() -> None:
    """Texts and choices may share a recipe: a pack that holds texts alone has nothing to penalise."""
    pack = make_pack([15, 16])
    answers = AnswerTerm(torch.tensor(pack.targets))
    gradients = []
    for terms in ((answers,), (answers, ShortcutTerm(pack, (A, B), SETTINGS))):
        hidden = torch.ones(len(pack.targets), 30, requires_grad=True)
        chunked_row_loss(hidden, torch.eye(30), terms).backward()
        gradients.append(hidden.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_only_the_first_token_of_an_answer_is_a_choice() -> None:
    pack = build_pack([PromptGroup((1, 2), ((A, B, END), (B,)))])
    assert first_targets(pack) == [True, False, False, True]


def test_the_penalty_pushes_the_favourite_down() -> None:
    pack = make_pack([A, B])
    hidden = torch.zeros(4, 30)
    hidden[[0, 2], A] = 3.0
    hidden.requires_grad_()
    term = ShortcutTerm(pack, (A, B), SETTINGS)
    chunked_row_loss(hidden, torch.eye(30), (term,)).backward()
    assert hidden.grad is not None
    assert (hidden.grad[[0, 2], A] > 0.01).all() and (hidden.grad[[0, 2], B] < -0.01).all()
    assert hidden.grad[[1, 3]].abs().max() == 0


def test_labels_that_begin_alike_are_refused(tiny_qwen2: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(tiny_qwen2)
    assert len(set(label_tokens(tokenizer, ("A", "B", "C")))) == 3
    with pytest.raises(ShortcutError, match="do not begin with different tokens"):
        label_tokens(tokenizer, ("A", "A."))


def test_a_run_watches_its_answers(tmp_path: Path, tiny_qwen2: Path) -> None:
    rows = [{"prompt": f"Choose {n}", "completion": "AB"[n % 2]} for n in range(24)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "tiny"\nbase = "tiny"\nseed = 1\n[[sources]]\npath = "rows.jsonl"\n[optimizer]\nlr = 1e-2\n'
        "[batching]\nstep_tokens = 300\npack_tokens = 300\nmax_seq_len = 100\nepochs = 3\n"
        '[shortcut]\nlabels = ["A", "B"]\n'
    )
    train(recipe, Folders(base=tiny_qwen2, data=(tmp_path,), out=tmp_path / "out"), dtype=torch.float32)
    lines = (tmp_path / "out.run" / "metrics.jsonl").read_text().splitlines()
    steps = [row for row in map(json.loads, lines) if "loss" in row]
    assert all(sum(row["answer_shares"].values()) == pytest.approx(1.0, abs=0.01) for row in steps)
    assert steps[-1]["answer_divergence"] < 0.2
    assert (tmp_path / "out.run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def choice_pack(answers: list[int], listed: tuple[int, ...] = (A, B)) -> Pack:
    return build_pack(
        [PromptGroup((1, 20 + place, *listed, 2), ((answer, END),)) for place, answer in enumerate(answers)]
    )


def total_gradient(pack: Pack, hidden: torch.Tensor, centered: bool) -> torch.Tensor:
    """The gradient of the answers' loss and a penalty that never falls due, in the logits of the choices."""
    settings = Shortcut(labels=("A", "B"), tolerance=9.0, centered=0.8)
    hidden = hidden.clone().requires_grad_()
    choice = ShortcutTerm(pack, (A, B), settings, progress=0.79 if centered else 0.8)
    chunked_row_loss(hidden, torch.eye(30), (AnswerTerm(torch.tensor(pack.targets)), choice)).backward()
    assert hidden.grad is not None
    return hidden.grad[::2, [A, B]]


def test_centered_a_favourite_has_no_part_in_the_gradient() -> None:
    pack = choice_pack([A, B, A, B, A, B])
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(12, 30, generator=generator)
    hidden[::2, [A, B]] += 9.0  # the choice is among the letters
    leaning = hidden.clone()
    leaning[::2, A] += 2.0
    even, biased = (total_gradient(pack, one, centered=True) for one in (hidden, leaning))
    torch.testing.assert_close(even, biased, rtol=1e-2, atol=2e-3)
    assert even.sum(0).abs().max() < 0.01  # nothing pushes all A up or down
    assert total_gradient(pack, leaning, centered=False).sum(0).abs().max() > 0.5
    # What tells the questions apart is learned: the right letters are pushed up.
    right = torch.tensor([0, 1, 0, 1, 0, 1])
    assert float(even.gather(1, right[:, None]).mean()) < -0.2


def test_centered_few_questions_are_learned_as_they_are() -> None:
    pack = choice_pack([A, B, A])
    hidden = torch.randn(6, 30, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(total_gradient(pack, hidden, True), total_gradient(pack, hidden, False))


def taught_gradient(pack: Pack, hidden: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The gradient in the choices' logits of half the answers' loss and half the divergence from a teacher, centered."""
    settings = Distill(answer_weight=0.5, logit_weight=0.5)
    lesson = Lesson(torch.tensor([[B, A, 7]] * len(teacher)), teacher[:, [B, A, 7]], torch.zeros(0))
    taught = TaughtLabels(lesson.log_probabilities_of((A, B)), settings.logit_weight)
    watch = Shortcut(labels=("A", "B"), tolerance=9.0, centered=1.0)
    hidden = hidden.clone().requires_grad_()
    terms = (
        AnswerTerm(torch.tensor(pack.targets), settings.answer_weight),
        TeacherTerm(lesson.ids, lesson.log_probabilities, settings, settings.logit_weight),
        ShortcutTerm(pack, (A, B), watch, 0.5, settings.answer_weight, (taught,)),
    )
    chunked_row_loss(hidden, torch.eye(30), terms).backward()
    assert hidden.grad is not None
    return hidden.grad[::2, [A, B]]


def test_centered_neither_the_pupils_nor_the_teachers_favourite_has_a_part() -> None:
    pack = choice_pack([A, B, A, B, A, B])
    generator = torch.Generator().manual_seed(2)
    hidden, teacher = (torch.randn(12, 30, generator=generator) for _ in range(2))
    for logits in (hidden, teacher):
        logits[::2, [A, B]] += 12.0  # the choice is among the letters
    leaning, its_leaning = hidden.clone(), teacher.clone()
    leaning[::2, A] += 2.0
    its_leaning[::2, B] += 2.0
    plain = taught_gradient(pack, hidden, teacher.log_softmax(1))
    torch.testing.assert_close(
        plain, taught_gradient(pack, leaning, its_leaning.log_softmax(1)), rtol=1e-2, atol=2e-3
    )
    assert plain.sum(0).abs().max() < 0.01
    # The teacher's opinion of each question is learned all the same.
    turned = teacher.clone()
    turned[::2, [A, B]] = teacher[::2, [B, A]]
    assert (plain - taught_gradient(pack, hidden, turned.log_softmax(1))).abs().max() > 0.05


def test_letters_are_offered_where_the_prompt_lists_them() -> None:
    pack = build_pack([PromptGroup((1, A, B, 2), ((A, END),)), PromptGroup((1, A, 2), ((A, END), (A,)))])
    assert offered_labels(pack, (A, B)) == [(0, 1), (0, 1), (0,), (0,), (0,)]
