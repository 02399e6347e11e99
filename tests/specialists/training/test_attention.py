import torch

from specialists.training.attention import attend_segments
from specialists.training.packing import Segment

SCALE = 0.25


def make_inputs(num_tokens: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, num_tokens, 8), (2, num_tokens, 8), (2, num_tokens, 8)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    output = torch.nn.functional.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=visible, scale=SCALE, enable_gqa=True
    )
    return output[0].transpose(0, 1)


def visibility(num_tokens: int, segments: list[Segment]) -> torch.Tensor:
    visible = torch.zeros(num_tokens, num_tokens, dtype=torch.bool)
    for segment in segments:
        for row in range(segment.start, segment.end):
            visible[row, segment.prefix_start : segment.prefix_end] = True
            visible[row, segment.start : row + 1] = True
    return visible


def test_segments_see_their_prefix_and_their_own_past_and_nothing_else() -> None:
    segments = [Segment(0, 7, 0, 0), Segment(7, 9, 0, 4), Segment(9, 10, 9, 9), Segment(10, 15, 9, 10)]
    inputs = make_inputs(15)
    expected = reference(*inputs, visibility(15, segments))
    output = attend_segments(*inputs, segments, SCALE)
    # scores are made in float32 whatever the inputs are
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    grads = torch.autograd.grad(output.square().sum(), inputs)
    expected_grads = torch.autograd.grad(expected.square().sum(), inputs)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-5)


def test_large_scores_survive_bf16() -> None:
    """A constant in all keys moves every score alike and must not change the result."""
    q, k, v = (one.detach() for one in make_inputs(32, torch.bfloat16))
    shift = torch.full((1, 1, 8), 64.0, dtype=torch.bfloat16)
    shifted = (k + shift).detach()
    segments = [Segment(0, 32, 0, 0)]
    visible = visibility(32, segments)
    true = reference(q.double(), shifted.double(), v.double(), visible)
    output = attend_segments(q, shifted, v, segments, SCALE)
    torch.testing.assert_close(output.double(), true, rtol=0.02, atol=0.02)
