"""The tensors of one step, made from the scheduler's plan."""

from dataclasses import dataclass

import torch
from torch import Tensor

from specialists.engine.attention import DecodeRows, PrefillChunk
from specialists.engine.scheduler_output import ScheduledSequence, SchedulerOutput


@dataclass(frozen=True, slots=True)
class ForwardBatch:
    """All tokens of one step in one row of tokens: decodes first, then the prompt chunks."""

    token_ids: Tensor  # [num_tokens]
    positions: Tensor  # [num_tokens]
    cache_places: Tensor  # [num_tokens], block * block_size + offset
    sampled_rows: Tensor  # [num_sampled], the rows whose next token is wanted, in the plan's order; a draft's among them
    decodes: DecodeRows | None
    prefills: tuple[PrefillChunk, ...]


def build_batch(output: SchedulerOutput, block_size: int, device: torch.device) -> ForwardBatch:
    """Lay out the plan's tokens. Reads sequences as they are before the step is noted as done."""
    token_ids: list[int] = []
    positions: list[int] = []
    places: list[int] = []
    sampled_rows: list[int] = []
    for item in output.scheduled:
        sequence = item.sequence
        start, end = sequence.num_computed, sequence.num_computed + item.num_rows
        token_ids += sequence.token_ids[start : start + item.num_tokens]
        token_ids += item.draft
        positions += range(start, end)
        table = sequence.block_table
        places += (table[p // block_size] * block_size + p % block_size for p in range(start, end))
        if item.completes:
            sampled_rows += range(len(token_ids) - 1 - len(item.draft), len(token_ids))

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return ForwardBatch(
        token_ids=tensor(token_ids),
        positions=tensor(positions),
        cache_places=tensor(places),
        sampled_rows=tensor(sampled_rows),
        decodes=_decode_rows(output.decodes, block_size, device),
        prefills=_prefill_chunks(output, block_size, device),
    )


def _decode_rows(
    decodes: tuple[ScheduledSequence, ...], block_size: int, device: torch.device
) -> DecodeRows | None:
    if not decodes:
        return None
    # A drafted token is one more row of its sequence, which sees one more key.
    rows = [item.sequence for item in decodes for _ in range(item.num_rows)]
    num_keys = [len(item.sequence) + place for item in decodes for place in range(item.num_rows)]
    width = -(-max(num_keys) // block_size)
    blocks = [block for sequence in rows for block in (sequence.block_table[:width] + [0] * width)[:width]]
    return DecodeRows(
        num_rows=len(rows),
        block_size=block_size,
        blocks=torch.tensor(blocks, device=device),
        table_starts=torch.arange(0, width * len(rows), width, device=device),
        num_keys=torch.tensor(num_keys, device=device),
    )


def _prefill_chunks(
    output: SchedulerOutput, block_size: int, device: torch.device
) -> tuple[PrefillChunk, ...]:
    chunks = []
    start = sum(item.num_rows for item in output.decodes)
    for item in output.prefills:
        end = start + item.num_tokens
        num_before = item.sequence.num_computed
        num_blocks = -(-(num_before + item.num_tokens) // block_size)
        chunks.append(
            PrefillChunk(
                start=start,
                end=end,
                is_first=num_before == 0,
                block_size=block_size,
                all_blocks=torch.tensor(item.sequence.block_table[:num_blocks], device=device),
                num_keys=torch.arange(num_before + 1, num_before + item.num_tokens + 1, device=device),
            )
        )
        start = end
    return tuple(chunks)
