"""Divergences over the teacher's top tokens, against plain ones over the whole vocabulary."""

import pytest
import torch

from specialists.training.divergence import TeacherTerm, divergence, with_rest
from specialists.training.losses import AnswerTerm, chunked_row_loss
from specialists.training.method_sections import Distill


def draw(rows: int, outcomes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(2 * torch.randn(rows, outcomes, generator=generator), dim=-1)


def test_the_rest_completes_the_distribution() -> None:
    whole = with_rest(draw(5, 20, 1)[:, :7])
    torch.testing.assert_close(whole.exp().sum(1), torch.ones(5))
    certain = with_rest(torch.zeros(1, 1))  # one token has it all: what is left is small, not minus infinity
    assert torch.isfinite(certain).all()


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_a_divergence_is_positive_and_zero_only_for_the_same(kind: str) -> None:
    settings = Distill(divergence=kind, beta=0.3)  # type: ignore[arg-type]
    one, other = draw(4, 9, 1), draw(4, 9, 2)
    assert divergence(one, other, settings) > 0.1
    assert divergence(one, one, settings) == pytest.approx(0.0, abs=1e-5)


def test_the_kinds_are_what_their_names_say() -> None:
    teacher, student = draw(4, 9, 1), draw(4, 9, 2)
    forward = torch.nn.functional.kl_div(student, teacher, log_target=True, reduction="sum")
    torch.testing.assert_close(divergence(teacher, student, Distill(divergence="forward_kl")), forward)
    torch.testing.assert_close(divergence(student, teacher, Distill(divergence="reverse_kl")), forward)
    # at its ends the JSD, divided by the smaller share, becomes the two KLs
    nearly = divergence(teacher, student, Distill(divergence="jsd", beta=1e-4)) / 1e-4
    torch.testing.assert_close(nearly, forward, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_with_all_tokens_known_loss_and_gradient_are_those_of_plain_distillation(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 16, generator=generator, requires_grad=True)
    head = 0.3 * torch.randn(40, 16, generator=generator)
    teacher = torch.log_softmax(torch.randn(11, 40, generator=generator) / temperature, dim=-1)
    student = torch.log_softmax(hidden @ head.t() / temperature, dim=-1)
    expected = temperature**2 * torch.nn.functional.kl_div(student, teacher, log_target=True, reduction="sum")
    (expected_grad,) = torch.autograd.grad(expected, hidden)
    values, ids = teacher.topk(39, dim=-1)  # the fortieth is the rest
    term = TeacherTerm(ids, values, Distill(temperature=temperature), weight=1.0)
    loss = chunked_row_loss(hidden, head, (term,))
    (grad,) = torch.autograd.grad(loss, hidden)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-3, atol=2e-3)


def test_terms_add_up_with_their_weights_and_temperatures() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 16, generator=generator, requires_grad=True)
    head = torch.randn(40, 16, generator=generator)
    targets = torch.randint(0, 40, (11,), generator=generator)
    values, ids = draw(11, 40, 4).topk(5, dim=-1)
    terms = [AnswerTerm(targets, 0.5), TeacherTerm(ids, values, Distill(temperature=2.0), 0.25)]
    losses = [chunked_row_loss(hidden, head, (term,)) for term in terms]
    grads = [torch.autograd.grad(loss, hidden)[0] for loss in losses]
    together = chunked_row_loss(hidden, head, terms)
    torch.testing.assert_close(together, losses[0] + losses[1])
    torch.testing.assert_close(torch.autograd.grad(together, hidden)[0], grads[0] + grads[1])
