import pytest
import torch

from specialists.training import losses
from specialists.training.losses import chunked_cross_entropy


def make_inputs(dtype: torch.dtype, rows: int = 37) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 16, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(301, 16, generator=generator).to(dtype)
    targets = torch.randint(0, 301, (rows,), generator=generator)
    return hidden, head, targets


@pytest.mark.parametrize("chunk_rows", [1, 10, 37, 256])
def test_loss_and_gradient_equal_the_plain_ones(chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", chunk_rows)
    hidden, head, targets = make_inputs(torch.float64)
    expected = torch.nn.functional.cross_entropy(hidden @ head.t(), targets, reduction="sum")
    (expected_grad,) = torch.autograd.grad(expected, hidden)
    loss = chunked_cross_entropy(hidden, head, targets)
    (grad,) = torch.autograd.grad(loss, hidden)
    # probabilities are made in float32 whatever the inputs are
    torch.testing.assert_close(loss, expected.float())
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-6)


def test_in_bf16_the_gradient_is_as_near_to_the_true_one_as_the_plain_gradient() -> None:
    hidden, head, targets = make_inputs(torch.bfloat16)
    true_hidden = hidden.detach().double().requires_grad_()
    true = torch.nn.functional.cross_entropy(true_hidden @ head.double().t(), targets, reduction="sum")
    (true_grad,) = torch.autograd.grad(true, true_hidden)
    plain = torch.nn.functional.cross_entropy((hidden @ head.t()).float(), targets, reduction="sum")
    (plain_grad,) = torch.autograd.grad(plain, hidden)
    (grad,) = torch.autograd.grad(chunked_cross_entropy(hidden, head, targets), hidden)
    error = (grad.double() - true_grad).norm()
    assert error <= 1.05 * (plain_grad.double() - true_grad).norm()


def test_the_gradient_is_scaled_by_what_comes_from_above() -> None:
    hidden, head, targets = make_inputs(torch.float32)
    (once,) = torch.autograd.grad(chunked_cross_entropy(hidden, head, targets), hidden)
    (scaled,) = torch.autograd.grad(chunked_cross_entropy(hidden, head, targets) * 0.25, hidden)
    torch.testing.assert_close(scaled, once * 0.25)


def test_without_gradient_the_loss_is_the_same() -> None:
    hidden, head, targets = make_inputs(torch.float32)
    with torch.inference_mode():
        loss = chunked_cross_entropy(hidden.detach(), head, targets)
    torch.testing.assert_close(loss, chunked_cross_entropy(hidden, head, targets))


def test_an_almost_certain_target_keeps_its_small_gradient() -> None:
    """In bf16, `probability - 1` would round to zero here."""
    head = torch.tensor([[1.0], [0.0]], dtype=torch.bfloat16)
    hidden = torch.tensor([[9.0]], dtype=torch.bfloat16, requires_grad=True)
    chunked_cross_entropy(hidden, head, torch.tensor([0])).backward()
    assert hidden.grad is not None
    assert hidden.grad.item() == pytest.approx(-torch.sigmoid(torch.tensor(-9.0)).item(), rel=0.01)
