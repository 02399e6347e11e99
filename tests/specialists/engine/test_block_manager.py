"""Block accounting: who holds what, what may be shared, and that no sequence of operations loses a block."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from specialists.engine.block_manager import BlockManager
from specialists.engine.sampling_params import SamplingParams
from specialists.engine.sequence import Sequence

BLOCK = 4


def make_sequence(token_ids: list[int], adapter_id: int = 0) -> Sequence:
    return Sequence(
        request_id="r",
        token_ids=token_ids,
        num_prompt=len(token_ids),
        params=SamplingParams(),
        seed=0,
        max_total=1000,
        adapter_id=adapter_id,
    )


def compute(blocks: BlockManager, sequence: Sequence) -> None:
    """As a step would: room for all tokens, all of them computed, the full blocks made known."""
    num_before = sequence.num_computed
    blocks.grow(sequence, len(sequence))
    sequence.num_computed = len(sequence)
    blocks.publish(sequence, num_before)


def test_grows_by_whole_blocks():
    blocks = BlockManager(4, BLOCK)
    sequence = make_sequence(list(range(5)))
    assert blocks.num_needed(sequence, 5) == 2
    blocks.grow(sequence, 5)
    assert blocks.num_free == 2
    assert not blocks.can_grow(sequence, 17)
    assert blocks.can_grow(sequence, 16)


def test_shares_the_longest_known_beginning_but_leaves_a_token_to_compute():
    blocks = BlockManager(16, BLOCK)
    first = make_sequence(list(range(12)))
    compute(blocks, first)
    same, longer, other = (
        make_sequence(list(range(12))),
        make_sequence(list(range(14))),
        make_sequence([9] * 12),
    )
    for sequence in (same, longer, other):
        blocks.share_prefix(sequence)
    assert (same.num_computed, longer.num_computed, other.num_computed) == (8, 12, 0)
    assert longer.block_table == first.block_table
    blocks.check_integrity([first, same, longer, other])


def test_shares_after_the_first_owner_is_gone():
    blocks = BlockManager(16, BLOCK)
    first = make_sequence(list(range(12)))
    compute(blocks, first)
    blocks.free(first)
    assert blocks.num_free == 16
    second = make_sequence(list(range(12)))
    blocks.share_prefix(second)
    assert second.num_computed == 8
    blocks.check_integrity([second])


def test_another_adapter_generation_shares_nothing():
    blocks = BlockManager(16, BLOCK)
    compute(blocks, make_sequence(list(range(12)), adapter_id=1))
    for adapter_id in (0, 2):
        reloaded = make_sequence(list(range(12)), adapter_id=adapter_id)
        blocks.share_prefix(reloaded)
        assert reloaded.num_computed == 0


def test_same_block_after_another_beginning_is_not_shared():
    blocks = BlockManager(16, BLOCK)
    compute(blocks, make_sequence([1] * 4 + [2] * 4 + [3] * 4))
    other = make_sequence([9] * 4 + [2] * 4 + [3] * 4)
    blocks.share_prefix(other)
    assert other.num_computed == 0


def test_known_contents_give_way_when_blocks_are_needed_the_end_first():
    blocks = BlockManager(4, BLOCK)
    first = make_sequence(list(range(16)))
    compute(blocks, first)
    blocks.free(first)
    compute(blocks, make_sequence([50, 51, 52, 53, 54]))
    again = make_sequence(list(range(16)))
    blocks.share_prefix(again)
    assert again.num_computed == 8


def test_forgetting_an_adapter_takes_its_beginnings_and_no_others():
    blocks = BlockManager(16, BLOCK)
    for adapter_id in (0, 1, 2):
        sequence = make_sequence(list(range(12)), adapter_id)
        compute(blocks, sequence)
        blocks.free(sequence)
    assert blocks.known_adapters() == {0, 1, 2}
    blocks.forget_adapter(1)
    blocks.check_integrity([])
    assert blocks.known_adapters() == {0, 2}
    again = [make_sequence(list(range(12)), adapter_id) for adapter_id in (0, 1, 2)]
    for sequence in again:
        blocks.share_prefix(sequence)
    assert [sequence.num_computed for sequence in again] == [8, 0, 8]
    blocks.check_integrity(again)


def test_reuse_can_be_switched_off():
    blocks = BlockManager(16, BLOCK, reuse_prefixes=False)
    compute(blocks, make_sequence(list(range(12))))
    second = make_sequence(list(range(12)))
    blocks.share_prefix(second)
    assert second.num_computed == 0


def test_integrity_check_notices_a_lost_block():
    blocks = BlockManager(4, BLOCK)
    sequence = make_sequence(list(range(5)))
    blocks.grow(sequence, 5)
    sequence.block_table.pop()
    with pytest.raises(AssertionError, match="add up"):
        blocks.check_integrity([sequence])


class BlockMachine(RuleBasedStateMachine):
    """Random lives of sequences with few distinct tokens, so that beginnings often agree."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockManager(12, BLOCK)
        self.sequences: list[Sequence] = []
        # What each block holds, as the cache would: (adapter, tokens up to the block's end).
        self.contents: dict[int, tuple[int, tuple[int, ...]]] = {}

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=20), adapter_id=st.integers(0, 2))
    def arrive(self, tokens: list[int], adapter_id: int) -> None:
        sequence = make_sequence(tokens, adapter_id)
        if self.blocks.can_grow(sequence, len(sequence)):
            self.blocks.share_prefix(sequence)
            self._check_contents(sequence)
            self.blocks.grow(sequence, len(sequence))
            self.sequences.append(sequence)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), num_tokens=st.integers(1, 7))
    def compute_some(self, data: st.DataObject, num_tokens: int) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        num_before = sequence.num_computed
        for position in range(num_before, min(num_before + num_tokens, len(sequence))):
            block_id = sequence.block_table[position // BLOCK]
            self.contents[block_id] = (sequence.adapter_id, tuple(sequence.token_ids[: position + 1]))
            sequence.num_computed = position + 1
        self.blocks.publish(sequence, num_before)
        self._check_contents(sequence)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), token_id=st.integers(0, 1))
    def extend(self, data: st.DataObject, token_id: int) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        sequence.append(token_id)
        if self.blocks.can_grow(sequence, len(sequence)):
            self.blocks.grow(sequence, len(sequence))
        else:
            sequence.token_ids.pop()

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        self.blocks.free(sequence)
        self.sequences.remove(sequence)

    @rule(adapter_id=st.integers(0, 2))
    def forget(self, adapter_id: int) -> None:
        self.blocks.forget_adapter(adapter_id)
        assert adapter_id not in self.blocks.known_adapters()
        sequence = make_sequence([0] * 20, adapter_id)
        self.blocks.share_prefix(sequence)
        assert sequence.num_computed == 0

    @invariant()
    def adds_up(self) -> None:
        self.blocks.check_integrity(self.sequences)

    def _check_contents(self, sequence: Sequence) -> None:
        """Every computed full block of the sequence holds what the sequence believes."""
        for index in range(sequence.num_computed // BLOCK):
            expected = (sequence.adapter_id, tuple(sequence.token_ids[: (index + 1) * BLOCK]))
            assert self.contents[sequence.block_table[index]] == expected


BlockMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBlockMachine = BlockMachine.TestCase
