"""All facts of one request inside the engine. No torch here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from specialists.engine.prompt_lookup import PromptLookup
from specialists.engine.sampling_params import SamplingParams

BASE_ADAPTER = 0  # the adapter id of a request that the bare base answers


class SequenceStatus(Enum):
    """Where a sequence is between arrival and its one outcome."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """One request: its tokens so far, how many of them are in the cache, and where.

    `token_ids` is the prompt followed by what was sampled. `num_computed` counts the tokens whose keys and values are
    in the cache. `block_table` lists cache blocks in token order. `adapter_id` is the generation of the
    adapter that answers, or BASE_ADAPTER. `probe` is shown the logits [vocab_size] of each of its steps, on the engine's
    thread; they are the next step's to overwrite.
    """

    request_id: str
    token_ids: list[int]
    num_prompt: int
    params: SamplingParams
    seed: int
    max_total: int  # tokens, prompt included, at which the request ends
    adapter_id: int = BASE_ADAPTER
    probe: Callable[[Any], None] | None = None
    status: SequenceStatus = SequenceStatus.WAITING
    num_computed: int = 0
    num_cached: int = 0  # prompt tokens that were found in the cache and not computed for this request
    block_table: list[int] = field(default_factory=list)
    lookup: PromptLookup = field(default_factory=PromptLookup)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_completion(self) -> int:
        return len(self.token_ids) - self.num_prompt

    @property
    def num_uncomputed(self) -> int:
        return len(self.token_ids) - self.num_computed

    @property
    def is_decoding(self) -> bool:
        """Only the newest token is missing from the cache."""
        return self.num_uncomputed == 1 and self.num_computed > 0

    def append(self, token_id: int) -> None:
        self.token_ids.append(token_id)
