"""Which cache blocks belong to which sequence, and which hold a beginning that another prompt may share.

Counting only: the tensors are in `kv_cache`. A full block is known by the block before it and its tokens, and a first
block by the adapter generation, so two sequences share a block only when adapter and all tokens up to its end agree: an
adapter reloaded under its old name has a new generation and finds nothing of the old.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

from specialists.engine.sequence import Sequence

_BlockKey = tuple[int, tuple[int, ...]]  # content id of the block before, the block's tokens


@dataclass(slots=True)
class _Block:
    """`num_users` sequences hold it; the rest is set once its contents may be shared."""

    num_users: int = 0
    key: _BlockKey | None = None
    content_id: int = 0
    adapter_id: int = 0


class BlockManager:
    """Hands out the blocks of the KV cache. A block is free, held by sequences, or idle with contents worth keeping.

    Question methods (`can_grow`) change nothing; action methods (`grow`, `free`) expect the question was asked.
    """

    def __init__(self, num_blocks: int, block_size: int, *, reuse_prefixes: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._reuse_prefixes = reuse_prefixes
        self._blocks = [_Block() for _ in range(num_blocks)]
        self._free: deque[int] = deque(range(num_blocks))
        self._idle: OrderedDict[int, None] = (
            OrderedDict()
        )  # known contents, no user; least recently used first
        self._block_by_key: dict[_BlockKey, int] = {}
        self._next_content_id = 1

    @property
    def num_free(self) -> int:
        """Blocks that can be handed out, those with reusable contents included."""
        return len(self._free) + len(self._idle)

    def num_needed(self, sequence: Sequence, num_tokens: int) -> int:
        """Blocks that are missing until the first `num_tokens` tokens of the sequence have a place."""
        return max(0, -(-num_tokens // self.block_size) - len(sequence.block_table))

    def can_grow(self, sequence: Sequence, num_tokens: int) -> bool:
        return self.num_needed(sequence, num_tokens) <= self.num_free

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Give the sequence blocks for its first `num_tokens` tokens."""
        for _ in range(self.num_needed(sequence, num_tokens)):
            block_id = self._take()
            self._blocks[block_id].num_users = 1
            sequence.block_table.append(block_id)

    def share_prefix(self, sequence: Sequence) -> None:
        """Let a sequence without blocks start from the longest known beginning of its tokens, all but the last of them.

        At least one token is left to compute: the model has to run to say what comes next.
        """
        assert not sequence.block_table, "only a sequence without blocks can start from a known beginning"
        if not self._reuse_prefixes:
            return
        parent = _root(sequence)
        for start in range(0, len(sequence) - self.block_size, self.block_size):
            block_id = self._block_by_key.get(
                (parent, tuple(sequence.token_ids[start : start + self.block_size]))
            )
            if block_id is None:
                break
            block = self._blocks[block_id]
            if block.num_users == 0:
                del self._idle[block_id]
            block.num_users += 1
            sequence.block_table.append(block_id)
            parent = block.content_id
        sequence.num_computed = len(sequence.block_table) * self.block_size

    def publish(self, sequence: Sequence, num_before: int) -> None:
        """Make the blocks that were filled since `num_before` tokens were computed known, for others to share."""
        if not self._reuse_prefixes:
            return
        for index in range(num_before // self.block_size, sequence.num_computed // self.block_size):
            parent = (
                _root(sequence) if index == 0 else self._blocks[sequence.block_table[index - 1]].content_id
            )
            block = self._blocks[sequence.block_table[index]]
            start = index * self.block_size
            key = (parent, tuple(sequence.token_ids[start : start + self.block_size]))
            twin = self._block_by_key.get(key)
            if twin is None:
                block.key = key
                block.adapter_id = sequence.adapter_id
                block.content_id = self._next_content_id
                self._next_content_id += 1
                self._block_by_key[key] = sequence.block_table[index]
            else:
                # Computed twice at the same time: what follows this copy follows its twin just as well.
                block.content_id = self._blocks[twin].content_id

    def forget(self, sequence: Sequence) -> None:
        """Make the contents of the sequence's blocks unknown: nobody starts from them any more."""
        for block_id in sequence.block_table:
            key = self._blocks[block_id].key
            if key is not None:
                del self._block_by_key[key]
                self._blocks[block_id].key = None

    def forget_adapter(self, adapter_id: int) -> None:
        """Make all that was computed under an adapter unknown; what no sequence holds of it is free again."""
        for block_id in list(self._block_by_key.values()):
            block = self._blocks[block_id]
            if block.adapter_id == adapter_id and block.key is not None:
                del self._block_by_key[block.key]
                block.key = None
                if block_id in self._idle:
                    del self._idle[block_id]
                    self._free.append(block_id)

    def known_adapters(self) -> set[int]:
        """The adapters of which some beginning is known."""
        return {self._blocks[block_id].adapter_id for block_id in self._block_by_key.values()}

    def free(self, sequence: Sequence) -> None:
        """Take back all blocks of the sequence. Known contents stay findable until their block is needed."""
        # The end goes first, so that it is also evicted first: a beginning is of use to more prompts.
        for block_id in reversed(sequence.block_table):
            block = self._blocks[block_id]
            block.num_users -= 1
            if block.num_users == 0 and block.key is not None:
                self._idle[block_id] = None
            elif block.num_users == 0:
                self._free.append(block_id)
        sequence.block_table.clear()
        sequence.num_computed = 0

    def check_integrity(self, sequences: list[Sequence]) -> None:
        """Every block is free, idle or held by exactly its users among `sequences`. Raises AssertionError otherwise."""
        num_users = [0] * self.num_blocks
        for sequence in sequences:
            for block_id in sequence.block_table:
                num_users[block_id] += 1
        assert num_users == [block.num_users for block in self._blocks], "a block's users do not add up"
        unused = sorted([*self._free, *self._idle])
        assert unused == [i for i in range(self.num_blocks) if num_users[i] == 0], (
            "a block is lost or held twice"
        )
        for key, block_id in self._block_by_key.items():
            assert self._blocks[block_id].key == key, "a block is known under a key that is not its own"

    def _take(self) -> int:
        if self._free:
            return self._free.popleft()
        block_id, _ = self._idle.popitem(last=False)
        block = self._blocks[block_id]
        assert block.key is not None
        del self._block_by_key[block.key]
        block.key = None
        return block_id


def _root(sequence: Sequence) -> int:
    """The content id before the first block: one for each adapter generation, apart from those of blocks."""
    return -1 - sequence.adapter_id
