"""What `batch_invariant` costs, and how often tokens differ without it.

    python -m bench.invariance_bench [--prompts 60]

The same prompts are answered greedily alone, and in random company; an answer differs when any of its tokens does.
"""

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.engine_bench import measure_decode, measure_prefill
from bench.results import describe_run, write_results
from server.settings import Settings
from specialists.base_model import resolve_base
from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import LLMEngine
from specialists.engine.sampling_params import SamplingParams

NUM_TOKENS = 32
_TOPICS = (
    "the sea",
    "loops in Python",
    "12 apples and 7 pears",
    "la capital de Perú",
    "bonds",
    "rain in spring",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure batch invariance on this machine.")
    parser.add_argument("--prompts", type=int, default=60)
    options = parser.parse_args()
    settings = Settings.load()
    base = resolve_base(settings.base, settings.home)
    results: dict[str, Any] = {**describe_run(), "prompts": options.prompts, "tokens_each": NUM_TOKENS}
    for quantization in ("none", "int8"):
        for batch_invariant in (False, True):
            config = EngineConfig(
                quantization=quantization,
                batch_invariant=batch_invariant,
                reuse_prefixes=False,
                kernel_folder=settings.home / "kernels",
            )
            name = f"{quantization}, {'batch_invariant' if batch_invariant else 'default'}"
            results[name] = _measure(base, config, options.prompts)
            print(name, results[name], flush=True)
    print(f"wrote {write_results(results, prefix='invariance-')}")


def _measure(base: Path, config: EngineConfig, count: int) -> dict[str, Any]:
    engine = LLMEngine(base, config)
    return {
        "prefill": {row["prompt_tokens"]: row["tokens_per_second"] for row in measure_prefill(engine)},
        "decode_16": next(row["tokens_per_second"] for row in measure_decode(engine, [], batch_sizes=(16,))),
        "answers_that_differ": _differing(engine, count),
    }


def _differing(engine: LLMEngine, count: int) -> int:
    """How many of `count` prompts are answered otherwise among random others than alone. Nothing is reused between runs."""
    chooser = random.Random(20)
    texts = [
        f"Tell me {n} things about {chooser.choice(_TOPICS)} and {chooser.randrange(1000)}."
        for n in range(count)
    ]
    prompts = [engine.tokenizer.encode_chat([{"role": "user", "content": text}]) for text in texts]
    params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
    unequal = [replace(params, max_tokens=chooser.randrange(8, NUM_TOKENS + 1)) for _ in prompts]
    alone = [engine.generate([prompt], params)[0].token_ids for prompt in prompts]
    together = engine.generate(prompts, unequal)
    return sum(
        answer.token_ids != tokens[: len(answer.token_ids)]
        for answer, tokens in zip(together, alone, strict=True)
    )


if __name__ == "__main__":
    main()
