"""Many prompts through the engine, answers handed back one by one as they finish.

Keeps the engine's batch full from a lazy stream of requests, so that a caller can decide late what to ask
next and can write each answer down before the next one arrives.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from specialists.adapters.registry import AdapterRegistry, LoadedAdapter
from specialists.engine.config import EngineConfig, Quantization
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.output import FinishReason, RequestOutput
from specialists.engine.sampling_params import SamplingParams
from specialists.evaluation.task import Message

# Nobody watches these answers grow, so prompts need not be taken in small pieces beside them.
PROMPT_TOKENS_A_STEP = 512


class GenerationError(RuntimeError):
    """The engine failed on a request; the message says which and why."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One conversation to answer. `key` is the caller's own and comes back with the answer."""

    key: str
    messages: Sequence[Message]
    params: SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One finished answer; `is_cut` when it met the token limit instead of ending by itself."""

    key: str
    text: str
    num_tokens: int
    is_cut: bool
    specialist: str | None = None  # who answered, where that was decided by the prompt
    is_reused: bool = False  # given in an earlier measurement


# What evaluation and sampling need of a model: answers come in the order in which they finish.
Generate = Callable[[Iterable[GenerationRequest]], Iterator[Generation]]
Choose = Callable[[Sequence[Message]], LoadedAdapter | None]

BASE_NAME = "base"


@dataclass(slots=True)
class _Pending:
    specialist: str | None
    texts: list[str] = field(default_factory=list)
    num_tokens: int = 0


class EngineGenerator:
    """Answers requests with one base model and one adapter, or that of `choose`. Used by one thread.

    `choose` says for each conversation which adapter answers it, None being the base.
    """

    def __init__(
        self, engine: LLMEngine, adapter: LoadedAdapter | None = None, choose: Choose | None = None
    ) -> None:
        self._engine = engine
        self._adapter = adapter
        self._choose = choose
        # Twice the batch: the scheduler always finds the next request waiting when a sequence ends.
        self._max_pending = 2 * engine.config.max_num_seqs

    @classmethod
    def from_folders(
        cls,
        model: Path,
        adapter: Path | None = None,
        concurrency: int = 32,
        quantization: Quantization = "none",
    ) -> Self:
        """Load a base and perhaps an adapter. Raises what loading them raises, naming the folder."""
        config = EngineConfig(
            max_num_seqs=concurrency,
            quantization=quantization,
            max_num_batched_tokens=PROMPT_TOKENS_A_STEP,
            max_prefill_tokens_while_decoding=PROMPT_TOKENS_A_STEP,
        )
        engine = LLMEngine(model, config)
        registry = AdapterRegistry(engine.runner.model.config, prepare=engine.runner.prepare)
        return cls(engine, None if adapter is None else registry.load(adapter))

    def __call__(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        """Yield answers as they finish; `requests` is read only as fast as the engine takes them."""
        waiting = iter(requests)
        pending: dict[str, _Pending] = {}
        while True:
            self._refill(waiting, pending)
            if not pending:
                return
            for output in self._engine.step():
                generation = _collect(pending, output)
                if generation is not None:
                    yield generation

    def _refill(self, waiting: Iterator[GenerationRequest], pending: dict[str, _Pending]) -> None:
        while len(pending) < self._max_pending:
            request = next(waiting, None)
            if request is None:
                return
            prompt_ids = self._engine.tokenizer.encode_chat(request.messages)
            adapter = self._adapter if self._choose is None else self._choose(request.messages)
            self._engine.add_request(request.key, prompt_ids, request.params, adapter)
            chosen = None if self._choose is None else (adapter.name if adapter else BASE_NAME)
            pending[request.key] = _Pending(chosen)


def _collect(pending: dict[str, _Pending], output: RequestOutput) -> Generation | None:
    answer = pending[output.request_id]
    answer.texts.append(output.text)
    answer.num_tokens += len(output.token_ids)
    if output.finish_reason is None:
        return None
    del pending[output.request_id]
    if output.finish_reason is FinishReason.FAILED:
        raise GenerationError(f"the engine failed on {output.request_id}: {output.error}")
    return Generation(
        key=output.request_id,
        text="".join(answer.texts),
        num_tokens=answer.num_tokens,
        is_cut=output.finish_reason is FinishReason.LENGTH,
        specialist=answer.specialist,
    )
