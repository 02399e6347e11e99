"""Requests in, increments of text out, one step at a time. Synchronous: `async_engine` gives it a thread."""

import logging
import random
from collections.abc import Callable, Collection, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from specialists.adapters.lora import Adapter, AdapterWeights
from specialists.engine.config import EngineConfig
from specialists.engine.detokenizer import IncrementalDetokenizer
from specialists.engine.model_runner import ModelRunner
from specialists.engine.output import FinishReason, RequestOutput
from specialists.engine.sampling_params import SamplingParams
from specialists.engine.scheduler import Scheduler
from specialists.engine.scheduler_output import AdapterPlacement, SchedulerOutput
from specialists.engine.sequence import BASE_ADAPTER, Sequence
from specialists.engine.stopping import StopChecker
from specialists.tokenizer import ChatTokenizer

logger = logging.getLogger(__name__)


class PromptTooLongError(ValueError):
    """The prompt leaves no room for an answer. `num_tokens` were found, fewer than `limit` are possible."""

    def __init__(self, num_tokens: int, limit: int) -> None:
        super().__init__(
            f"the prompt has {num_tokens} tokens; with at least one for the answer it must stay below {limit}"
        )
        self.num_tokens = num_tokens
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer, as `LLMEngine.generate` returns it."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason


@dataclass(slots=True)
class _Request:
    """One sequence with what turns its tokens into text."""

    sequence: Sequence
    weights: AdapterWeights | None  # held here, whatever becomes of the adapter
    detokenizer: IncrementalDetokenizer
    stop: StopChecker


class LLMEngine:
    """Scheduler, model runner and text assembly over one base model. Used by one thread.

    Every request that `add_request` accepts ends in exactly one output with a finish reason, unless `abort` took
    it first, which ends it silently.
    """

    def __init__(self, model_folder: Path, config: EngineConfig) -> None:
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        self.config = config
        self.tokenizer = ChatTokenizer.from_folder(model_folder)
        self.runner = ModelRunner(model_folder, config)
        self.scheduler = Scheduler(config)
        self.max_model_len = min(config.max_model_len, self.runner.model.config.max_position)
        self._requests: dict[str, _Request] = {}

    @property
    def has_unfinished(self) -> bool:
        return self.scheduler.has_unfinished

    def check_prompt(self, prompt_ids: SequenceOf[int]) -> None:
        """Raises PromptTooLongError, or ValueError for an empty prompt or a token id out of range."""
        if not prompt_ids:
            raise ValueError("the prompt has no tokens, expected at least one")
        if len(prompt_ids) >= self.max_model_len:
            raise PromptTooLongError(len(prompt_ids), self.max_model_len)
        vocab_size = self.runner.model.config.vocab_size
        if min(prompt_ids) < 0 or max(prompt_ids) >= vocab_size:
            raise ValueError(f"the prompt has a token id outside 0 to {vocab_size - 1}")

    def add_request(
        self,
        request_id: str,
        prompt_ids: SequenceOf[int],
        params: SamplingParams,
        adapter: Adapter | None = None,
        probe: Callable[[Tensor], None] | None = None,
    ) -> None:
        """Queue one request; `probe` sees its logits. Raises what `check_prompt` raises, and ValueError for an id in use."""
        self.check_prompt(prompt_ids)
        if request_id in self._requests:
            raise ValueError(f"a request with the id {request_id!r} is already running")
        weights = None if adapter is None else adapter.weights
        sequence = Sequence(
            request_id=request_id,
            token_ids=list(prompt_ids),
            num_prompt=len(prompt_ids),
            params=params,
            seed=random.getrandbits(63) if params.seed is None else params.seed,
            max_total=min(len(prompt_ids) + params.max_tokens, self.max_model_len),
            adapter_id=BASE_ADAPTER if adapter is None else adapter.generation,
            probe=probe,
        )
        self._requests[request_id] = _Request(
            sequence, weights, IncrementalDetokenizer(self.tokenizer.backend), StopChecker(params.stop)
        )
        self.scheduler.add(sequence)

    def abort(self, request_id: str) -> None:
        """End a request without an output; unknown or finished ids are ignored."""
        request = self._requests.pop(request_id, None)
        if request is not None:
            self.scheduler.finish(request.sequence)

    def active_adapters(self) -> Collection[int]:
        """The generations that sit in a slot. May be asked on any thread."""
        return self.scheduler.slots.adapters()

    def vacate(self, generation: int) -> None:
        """Keep the weights of an adapter no longer; no request may be using it."""
        slot = self.scheduler.slots.remove(generation)
        if slot is not None:
            self.runner.vacate(slot)

    def forget(self, generation: int) -> None:
        """Keep nothing of an adapter, neither its weights nor what it computed; no request may be using it."""
        self.scheduler.blocks.forget_adapter(generation)
        self.vacate(generation)

    def end_requests(self, generation: int, error: str) -> list[RequestOutput]:
        """End all requests of an adapter; the output of each says ABORTED and `error`."""
        found = [r.sequence for r in self._requests.values() if r.sequence.adapter_id == generation]
        return [self._end(sequence, FinishReason.ABORTED, error) for sequence in found]

    def step(self) -> list[RequestOutput]:
        """Run one step; an output for each request that has news.

        When the step fails, its requests run one by one, so that only those that fail alone end with an error.
        """
        plan = self.scheduler.schedule()
        if plan.is_empty:
            return []
        try:
            for placement in plan.placements:
                self._place(plan, placement)
            token_ids = self.runner.execute(plan)
        except Exception:
            logger.exception("a step of %d requests failed", len(plan.scheduled))
            return self._step_one_by_one(plan)
        return self._advance(plan, token_ids)

    def _step_one_by_one(self, plan: SchedulerOutput) -> list[RequestOutput]:
        outputs: list[RequestOutput] = []
        for item in plan.scheduled:
            is_decode = item in plan.decodes
            placements = tuple(p for p in plan.placements if p.adapter_id == item.sequence.adapter_id)
            alone = (
                SchedulerOutput((item,), (), placements)
                if is_decode
                else SchedulerOutput((), (item,), placements)
            )
            try:
                for placement in placements:
                    self._place(alone, placement)
                token_ids = self.runner.execute(alone)
            except Exception as error:
                outputs.append(self._fail(item.sequence, f"{type(error).__name__}: {error}"))
            else:
                outputs += self._advance(alone, token_ids)
        return outputs

    def _advance(self, plan: SchedulerOutput, token_ids: SequenceOf[tuple[int, ...]]) -> list[RequestOutput]:
        """Note that the step ran, and take its tokens."""
        completing = [item.sequence for item in plan.scheduled if item.completes]
        self.scheduler.advance(plan)
        outputs: list[RequestOutput] = []
        for sequence, taken in zip(completing, token_ids, strict=True):
            if taken:
                outputs += self._accept(sequence, taken)
            else:
                outputs.append(self._fail(sequence, "the model's logits are not finite"))
        return outputs

    def generate(
        self,
        prompts: SequenceOf[SequenceOf[int]],
        params: SamplingParams | SequenceOf[SamplingParams],
        adapters: Adapter | SequenceOf[Adapter | None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Answer all prompts, as many at a time as fit; `progress` hears how many are done.

        Raises RuntimeError when the engine failed on one of them.
        """
        params = [params] * len(prompts) if isinstance(params, SamplingParams) else params
        adapters = adapters if isinstance(adapters, SequenceOf) else [adapters] * len(prompts)
        for index, (prompt, one, adapter) in enumerate(zip(prompts, params, adapters, strict=True)):
            self.add_request(str(index), prompt, one, adapter)
        texts: list[list[str]] = [[] for _ in prompts]
        tokens: list[list[int]] = [[] for _ in prompts]
        done: dict[int, Completion] = {}
        while self.has_unfinished:
            for output in self.step():
                index = int(output.request_id)
                texts[index].append(output.text)
                tokens[index].extend(output.token_ids)
                if output.finish_reason is FinishReason.FAILED:
                    raise RuntimeError(f"prompt {index} failed: {output.error}")
                if output.finish_reason is not None:
                    done[index] = Completion(
                        "".join(texts[index]), tuple(tokens[index]), output.finish_reason
                    )
                    if progress is not None:
                        progress(len(done))
        return [done[index] for index in range(len(prompts))]

    def _place(self, plan: SchedulerOutput, placement: AdapterPlacement) -> None:
        for item in plan.prefills:
            request = self._requests[item.sequence.request_id]
            if item.sequence.adapter_id == placement.adapter_id and request.weights is not None:
                self.runner.place(placement.slot, request.weights)
                return
        raise AssertionError(f"adapter {placement.adapter_id} was placed without a request")

    def _accept(self, sequence: Sequence, token_ids: SequenceOf[int]) -> Iterator[RequestOutput]:
        """Take what a step yielded, one token after the other, up to the one that ends the sequence."""
        for place, token_id in enumerate(token_ids):
            output = self._accept_one(sequence, token_id)
            yield output
            if output.finish_reason is not None:
                return
            if place < len(token_ids) - 1:  # it was drafted, else nothing would follow it
                self.scheduler.confirm(sequence)

    def _accept_one(self, sequence: Sequence, token_id: int) -> RequestOutput:
        """Take one token: append it, make text of it, and end the sequence where it ends."""
        request = self._requests[sequence.request_id]
        params = sequence.params
        sequence.append(token_id)
        if token_id in self.tokenizer.eos_token_ids and not params.ignore_eos:
            text, met_stop = request.stop.feed(request.detokenizer.flush())
            return self._finish(
                request, text if met_stop else text + request.stop.flush(), token_id, FinishReason.STOP
            )
        text, met_stop = request.stop.feed(request.detokenizer.feed(token_id))
        if met_stop:
            return self._finish(request, text, token_id, FinishReason.STOP)
        if len(sequence) >= sequence.max_total:
            rest, met_stop = request.stop.feed(request.detokenizer.flush())
            rest = rest if met_stop else rest + request.stop.flush()
            reason = FinishReason.STOP if met_stop else FinishReason.LENGTH
            return self._finish(request, text + rest, token_id, reason)
        return self._output(sequence, text, (token_id,), None)

    def _finish(self, request: _Request, text: str, token_id: int, reason: FinishReason) -> RequestOutput:
        self.scheduler.finish(request.sequence)
        del self._requests[request.sequence.request_id]
        return self._output(request.sequence, text, (token_id,), reason)

    def _fail(self, sequence: Sequence, error: str) -> RequestOutput:
        return self._end(sequence, FinishReason.FAILED, error)

    def _end(self, sequence: Sequence, reason: FinishReason, error: str) -> RequestOutput:
        # What it computed is not for others to share: a prefix of NaNs would spread.
        self.scheduler.finish(sequence, forget=True)
        del self._requests[sequence.request_id]
        return self._output(sequence, "", (), reason, error)

    def _output(
        self,
        sequence: Sequence,
        text: str,
        token_ids: tuple[int, ...],
        reason: FinishReason | None,
        error: str | None = None,
    ) -> RequestOutput:
        return RequestOutput(
            request_id=sequence.request_id,
            text=text,
            token_ids=token_ids,
            finish_reason=reason,
            num_prompt_tokens=sequence.num_prompt,
            num_completion_tokens=sequence.num_completion,
            num_cached_tokens=sequence.num_cached,
            error=error,
        )
