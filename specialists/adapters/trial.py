"""Does a loaded adapter do anything, and anything finite? Asked of the running engine, before the adapter is let to serve.

The same few tokens go through the base and through the adapter as two ordinary requests of one token each: running streams
feel some more rows in one step, and nothing else.
"""

import asyncio
import itertools

import torch
from torch import Tensor

from specialists.adapters.errors import AdapterError
from specialists.adapters.loaded import LoadedAdapter
from specialists.engine.async_engine import AsyncEngine
from specialists.engine.sampling_params import SamplingParams

# Two at least: with one token the attention has nothing to choose, and an adapter of q or k alone does nothing. Few, as
# each is a row beside the running streams.
_PROMPT = (40, 41)
_PARAMS = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
_numbers = itertools.count()


def try_adapter(engine: AsyncEngine, adapter: LoadedAdapter, *, timeout: float = 30.0) -> None:
    """Compare the adapter's logits with the base's. Blocks for a step or two; not for an event loop's thread.

    Raises AdapterError: `no_effect`, `non_finite`, `trial_failed` after `timeout` seconds or when the engine failed
    otherwise. Raises EngineOverloadedError and EngineDeadError as any request does.
    """
    asyncio.run(_try(engine, adapter, timeout))


async def _try(engine: AsyncEngine, adapter: LoadedAdapter, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            base, adapted = await asyncio.gather(_logits(engine, None), _logits(engine, adapter))
    except TimeoutError:
        raise AdapterError(
            f"{adapter.folder}: the engine found no time to try it within {timeout:g} s", code="trial_failed"
        ) from None
    if not torch.isfinite(adapted).all():
        raise AdapterError(
            f"{adapter.folder}: the model's answers under it are not finite", code="non_finite"
        )
    if torch.equal(base, adapted):
        raise AdapterError(
            f"{adapter.folder}: the model's answers under it are those of the base, expected a change",
            code="no_effect",
        )


async def _logits(engine: AsyncEngine, adapter: LoadedAdapter | None) -> Tensor:
    """What the model says after the prompt, [vocab_size]."""
    seen: list[Tensor] = []
    stream = engine.generate(
        f"trial-{next(_numbers)}", _PROMPT, _PARAMS, adapter, lambda logits: seen.append(logits.clone())
    )
    error = None
    async for output in stream:
        error = output.error
    if not seen:
        raise AdapterError(f"a trial request failed: {error}", code="trial_failed")
    return seen[0]
