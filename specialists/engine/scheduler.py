"""Who runs in the next step. Integers only: no tensors, no text.

Running streams decode first; prompts fill what is left of the step's token budget in chunks; new requests are admitted,
fairly between adapters (`waiting`), while sequences, blocks and adapter slots last. When blocks run out the youngest running
sequence is preempted: it loses its cache, keeps its tokens, and is computed anew when there is room.
"""

from collections import Counter
from dataclasses import replace

from specialists.adapters.slots import SlotTable
from specialists.engine.block_manager import BlockManager
from specialists.engine.config import EngineConfig
from specialists.engine.scheduler_output import (
    BASE_SLOT,
    AdapterPlacement,
    ScheduledSequence,
    SchedulerOutput,
)
from specialists.engine.sequence import BASE_ADAPTER, Sequence, SequenceStatus
from specialists.engine.waiting import WaitingQueue

# A long prompt shares a step with running streams by at most so many tokens beside one more for each stream, and by half
# as many when so many tokens of it are behind it, which each of its rows must look at. On the CPU measured such a step takes
# less than two without the prompt (bench/README.md).
_PACE = 8
_HALF_PACE_AT = 512


class Scheduler:
    """Owns the queue of waiting and the list of running sequences, the blocks and the adapter slots."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.blocks = BlockManager(config.num_blocks, config.block_size, reuse_prefixes=config.reuse_prefixes)
        self.slots = SlotTable(config.max_adapters)
        self.waiting = WaitingQueue(patience=config.max_num_seqs)
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self._pace: int | None = None  # tokens of one long prompt in this step; None: as many as fit

    @property
    def has_unfinished(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def schedule(self) -> SchedulerOutput:
        """Plan one step; gives the planned sequences their blocks and slots."""
        decodes = self._schedule_decodes()
        if not self.waiting and len(decodes) == len(self.running):
            decodes = self._with_drafts(decodes)
        budget = self._prefill_budget(len(decodes))
        self._pace = _PACE + len(decodes) if decodes else None
        prefills, budget = self._continue_prefills(budget)
        admitted, placements = self._admit(budget)
        return SchedulerOutput(tuple(decodes), tuple(prefills + admitted), tuple(placements))

    def advance(self, output: SchedulerOutput) -> None:
        """Note that the step ran: its tokens, all but drafts, are in the cache now."""
        for item in output.scheduled:
            num_before = item.sequence.num_computed
            item.sequence.num_computed += item.num_tokens
            self.blocks.publish(item.sequence, num_before)

    def confirm(self, sequence: Sequence) -> None:
        """Note that the newest token was guessed right: what the step computed of it is in the cache already."""
        sequence.num_computed += 1
        self.blocks.publish(sequence, sequence.num_computed - 1)

    def finish(self, sequence: Sequence, *, forget: bool = False) -> None:
        """End a sequence in whatever state it is; frees its blocks and its hold on the adapter slot. Idempotent.

        With `forget` no later request may start from what this one computed.
        """
        if sequence.status is SequenceStatus.FINISHED:
            return
        if sequence.status is SequenceStatus.RUNNING:
            self.running.remove(sequence)
            if forget:
                self.blocks.forget(sequence)
            self._release(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.status = SequenceStatus.FINISHED

    def check_integrity(self) -> None:
        """Blocks and slots add up. Raises AssertionError otherwise."""
        self.blocks.check_integrity(self.running)
        assert all(not sequence.block_table for sequence in self.waiting), "a waiting sequence holds blocks"
        self.slots.check_integrity([sequence.adapter_id for sequence in self.running])

    def _schedule_decodes(self) -> list[ScheduledSequence]:
        decodes: list[ScheduledSequence] = []
        for sequence in list(self.running):
            if not sequence.is_decoding:
                continue
            # Room is made by preempting from the end of the list, so what is planned already stays planned;
            # a sequence preempted before its turn has lost its cache and is no longer decoding.
            if self._make_room(sequence):
                decodes.append(ScheduledSequence(sequence, 1, self._slot_of(sequence)))
        return decodes

    def _with_drafts(self, decodes: list[ScheduledSequence]) -> list[ScheduledSequence]:
        """Fill a step of few streams up with guesses, where blocks are to be had without taking any away."""
        num_rows = min(self._config.max_draft_rows, self._config.max_num_batched_tokens)
        num_spare = (num_rows - len(decodes)) // max(len(decodes), 1)
        return [self._with_draft(item, num_spare) for item in decodes] if num_spare > 0 else decodes

    def _with_draft(self, item: ScheduledSequence, limit: int) -> ScheduledSequence:
        sequence = item.sequence
        # The step yields one token more than it is given, and no answer may grow beyond its end.
        limit = min(limit, sequence.max_total - len(sequence) - 1)
        if (
            limit <= 0
            or sequence.probe is not None
            or not self.blocks.can_grow(sequence, len(sequence) + limit)
        ):
            return item
        draft = sequence.lookup.propose(sequence.token_ids, limit)
        self.blocks.grow(sequence, len(sequence) + len(draft))
        return replace(item, draft=draft)

    def _make_room(self, sequence: Sequence) -> bool:
        """Blocks for all tokens of `sequence`, taken from the youngest running ones; False if it was itself the youngest."""
        while not self.blocks.can_grow(sequence, len(sequence)):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is sequence:
                return False
        self.blocks.grow(sequence, len(sequence))
        return True

    def _prefill_budget(self, num_decodes: int) -> int:
        budget = self._config.max_num_batched_tokens - num_decodes
        if num_decodes:
            budget = min(budget, self._config.max_prefill_tokens_while_decoding)
        return budget

    def _continue_prefills(self, budget: int) -> tuple[list[ScheduledSequence], int]:
        prefills = []
        for sequence in self.running:
            # A prompt's blocks were all given at admission, so its later chunks always have room.
            if budget and not sequence.is_decoding:
                num_tokens = self._chunk_of(sequence, budget)
                prefills.append(ScheduledSequence(sequence, num_tokens, self._slot_of(sequence)))
                budget -= num_tokens
        return prefills, budget

    def _admit(self, budget: int) -> tuple[list[ScheduledSequence], list[AdapterPlacement]]:
        admitted: list[ScheduledSequence] = []
        placements: list[AdapterPlacement] = []
        passed_over: set[int] = set()
        num_running = Counter(sequence.adapter_id for sequence in self.running)
        while budget and len(self.running) < self._config.max_num_seqs:
            sequence = self.waiting.next_one(num_running, passed_over)
            if sequence is None or not self.blocks.can_grow(sequence, len(sequence)):
                break  # who is next waits for its blocks: a shorter prompt behind must not starve it
            if not self._take_slot(sequence, placements):
                passed_over.add(sequence.adapter_id)
                continue
            self.waiting.admit(sequence, passed_over)
            num_running[sequence.adapter_id] += 1
            num_tokens = self._start(sequence, budget)
            admitted.append(ScheduledSequence(sequence, num_tokens, self._slot_of(sequence)))
            budget -= num_tokens
        return admitted, placements

    def _start(self, sequence: Sequence, budget: int) -> int:
        """Give an admitted sequence its blocks; returns how many of its tokens run in this step."""
        self.blocks.share_prefix(sequence)
        if sequence.num_completion == 0:  # not one that comes back after a preemption
            sequence.num_cached = sequence.num_computed
        self.blocks.grow(sequence, len(sequence))
        sequence.status = SequenceStatus.RUNNING
        self.running.append(sequence)
        return self._chunk_of(sequence, budget)

    def _chunk_of(self, sequence: Sequence, budget: int) -> int:
        """How many tokens of a prompt run in this step. A long one goes slowly, so that streams hardly feel it."""
        num_tokens = min(sequence.num_uncomputed, budget)
        is_long = sequence.num_prompt - sequence.num_cached > self._config.max_prefill_tokens_while_decoding
        if self._pace is None or not is_long:
            return num_tokens
        pace = self._pace * _HALF_PACE_AT // (_HALF_PACE_AT + sequence.num_computed)
        return min(num_tokens, max(pace, 1))

    def _take_slot(self, sequence: Sequence, placements: list[AdapterPlacement]) -> bool:
        if sequence.adapter_id == BASE_ADAPTER:
            return True
        if not self.slots.can_acquire(sequence.adapter_id):
            return False
        slot, is_new = self.slots.acquire(sequence.adapter_id)
        if is_new:
            placements.append(AdapterPlacement(sequence.adapter_id, slot))
        return True

    def _slot_of(self, sequence: Sequence) -> int:
        return BASE_SLOT if sequence.adapter_id == BASE_ADAPTER else self.slots.slot_of(sequence.adapter_id)

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        sequence.status = SequenceStatus.WAITING
        self.waiting.push_back(sequence)
        self.num_preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        self.blocks.free(sequence)
        if sequence.adapter_id != BASE_ADAPTER:
            self.slots.release(sequence.adapter_id)
