import pytest
import torch

from specialists.training.shapes import pad_rows, round_up


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_sizes_are_rounded_up(size: int, expected: int) -> None:
    assert round_up(size, 64) == expected


def test_padding_appends_zeros_and_passes_gradients() -> None:
    tensor = torch.ones(2, 3, requires_grad=True)
    padded = pad_rows(tensor, 5, dim=1)
    assert padded.tolist() == [[1, 1, 1, 0, 0]] * 2
    padded.sum().backward()
    assert torch.equal(tensor.grad, torch.ones(2, 3))
    assert pad_rows(tensor, 3, dim=1) is tensor
    assert pad_rows(torch.tensor([1, 2]), 3, dim=0).tolist() == [1, 2, 0]
