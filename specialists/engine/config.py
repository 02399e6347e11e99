"""Sizes and limits of one engine. Immutable after construction; no torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Quantization = Literal["none", "int8", "bnb-nf4", "bnb-int8"]
KernelChoice = Literal["auto", "native", "torch"]

_LEAST = {
    "max_num_seqs": 1,
    "block_size": 1,
    "num_blocks": 1,
    "max_num_batched_tokens": 1,
    "max_model_len": 1,
    "max_prefill_tokens_while_decoding": 1,
    "max_adapters": 1,
    "max_draft_rows": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What one engine may use.

    Lengths and budgets are in tokens. `max_prefill_tokens_while_decoding` bounds the prompt tokens that share a
    step with running streams, so that a long prompt cannot stall them; without running streams a step takes
    `max_num_batched_tokens`. `quantization` is how the base's weights are kept; adapters stay in `dtype`. `kernels` are the
    native ones where they can be had (auto), always, or never; they are compiled into `kernel_folder`, or for this process
    alone when it is None. A step of fewer rows than `max_draft_rows` is filled up with guesses of what its streams
    say next (`prompt_lookup`); 0 never guesses. Raises ValueError naming the field when a value cannot work.
    """

    device: str = "cpu"
    dtype: str = "bfloat16"
    max_num_seqs: int = 32
    block_size: int = 32
    num_blocks: int = 2048
    max_num_batched_tokens: int = 512
    max_prefill_tokens_while_decoding: int = 128
    max_model_len: int = 4096
    max_adapters: int = 32
    max_lora_rank: int = 64
    reuse_prefixes: bool = True
    num_threads: int | None = None
    quantization: Quantization = "none"
    kernels: KernelChoice = "auto"
    kernel_folder: Path | None = None
    batch_invariant: bool = False
    max_draft_rows: int = 8

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least max_num_seqs "
                f"({self.max_num_seqs}): each running sequence takes one token a step"
            )
        for name, choices in (("quantization", Quantization), ("kernels", KernelChoice)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, expected one of {', '.join(get_args(choices))}"
                )
        if self.quantization != "none" and self.dtype != "bfloat16":
            raise ValueError(f"quantization {self.quantization} needs dtype bfloat16, got {self.dtype}")
        if self.max_model_len > self.num_blocks * self.block_size:
            raise ValueError(
                f"max_model_len ({self.max_model_len}) does not fit the cache of {self.num_blocks} blocks of "
                f"{self.block_size} tokens; raise num_blocks or lower max_model_len"
            )
