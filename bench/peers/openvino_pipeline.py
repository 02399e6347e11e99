"""OpenVINO GenAI, 8-bit weights, its continuous batching in process: run by the peer's own python, not by ours.

    python bench/peers/openvino_pipeline.py MODEL ADAPTER.safetensors ...

A batch may name an adapter for each request. Earlier versions answered them all with one of them, without an error, so
`mixed_is_right` says how many answers are those that each adapter gives alone (13 and 15 of 16 in two runs of 2026.4).
"""

import json
import sys
import time
from typing import Any

NUM_STREAMS = 16
NUM_TOKENS = 64


def main() -> None:
    import openvino_genai as genai

    model, *paths = sys.argv[1:]
    adapters = [genai.Adapter(path) for path in paths]
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 2
    scheduler.max_num_seqs = NUM_STREAMS
    # Only the constructor that takes a tokenizer takes the adapters too (2026.4).
    pipeline = genai.ContinuousBatchingPipeline(
        model, genai.Tokenizer(model), scheduler, "CPU", adapters=genai.AdapterConfig(adapters)
    )

    def generate(count: int, chosen: list[Any]) -> tuple[float, list[str]]:
        configs = []
        for i in range(count):
            config = genai.GenerationConfig()
            config.max_new_tokens = config.min_new_tokens = NUM_TOKENS
            config.do_sample = False
            config.ignore_eos = True
            config.adapters = genai.AdapterConfig(
                [chosen[i % len(chosen)]] if chosen[i % len(chosen)] else []
            )
            configs.append(config)
        prompts = [f"Question {i}: tell me something about the number {i}." for i in range(count)]
        start = time.perf_counter()
        results = pipeline.generate(prompts, configs)
        seconds = time.perf_counter() - start
        return round(count * NUM_TOKENS / seconds, 1), [result.m_generation_ids[0] for result in results]

    generate(1, [None])
    mixed_rate, mixed = generate(NUM_STREAMS, adapters)
    alone = {number: generate(NUM_STREAMS, [adapter])[1] for number, adapter in enumerate(adapters)}
    right = sum(mixed[i] == alone[i % len(adapters)][i] for i in range(NUM_STREAMS))
    measured = {
        "base": generate(NUM_STREAMS, [None])[0],
        "one_adapter": generate(NUM_STREAMS, adapters[:1])[0],
        "four_adapters": mixed_rate,
        "mixed_is_right": f"{right} of {NUM_STREAMS}",
        "single_stream": generate(1, [None])[0],
        "single_stream_adapter": generate(1, adapters[:1])[0],
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
