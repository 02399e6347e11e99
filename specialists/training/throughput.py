"""How fast a training step is here: plain transformers + PEFT beside our path, on the same made-up sequences.

    python -m specialists.training.throughput --base <folder> [--threads N] [--repeats 2]

Prints one line for each way and, last, one JSON object. A sequence has 110 prompt and 150 answer tokens, as GSM8K's
do; tokens are random, which changes no cost. `unshared` counts a prompt once for each of its answers, whether it
was computed so or not: that is the speed at which data is consumed.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from torch import Tensor
from transformers import AutoModelForCausalLM

from specialists.evaluation.provenance import current_commit, describe_machine
from specialists.training.data import PromptGroup
from specialists.training.lora import load_trainable
from specialists.training.method import pack_loss
from specialists.training.packing import build_pack
from specialists.training.sections import ALL_TARGETS, BaseQuantization, Lora

PROMPT_TOKENS, ANSWER_TOKENS, NUM_SEQUENCES = 110, 150, 4


def make_groups(answers_per_prompt: int) -> list[PromptGroup]:
    """Four sequences in all, `answers_per_prompt` of them behind each prompt."""
    generator = random.Random(20)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(generator.randrange(300) for _ in range(count))

    return [
        PromptGroup(draw(PROMPT_TOKENS), tuple(draw(ANSWER_TOKENS) for _ in range(answers_per_prompt)))
        for _ in range(NUM_SEQUENCES // answers_per_prompt)
    ]


def plain_step(base: Path, bf16_adapter: bool, answer_logits: bool) -> Callable[[], None]:
    """transformers' forward over a batch of equal sequences with PEFT's own layers."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, local_files_only=True)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=list(ALL_TARGETS), task_type="CAUSAL_LM")
    peft_model = get_peft_model(model, config, autocast_adapter_dtype=not bf16_adapter)
    ids = torch.tensor([[*group.prompt_ids, *group.answers[0]] for group in make_groups(1)])
    labels = ids.clone()
    labels[:, :PROMPT_TOKENS] = -100

    def step() -> None:
        if answer_logits:
            logits: Tensor = peft_model(
                input_ids=ids, logits_to_keep=ANSWER_TOKENS + 1, use_cache=False
            ).logits
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().flatten(0, 1), ids[:, PROMPT_TOKENS:].flatten()
            )
        else:
            loss = peft_model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()

    return step


def packed_step(
    base: Path, answers_per_prompt: int, quantization: BaseQuantization = "none", first_layer: int = 0
) -> Callable[[], None]:
    """Our path, with or without shared prompts."""
    lora = Lora(rank=8, first_layer=first_layer)
    model = load_trainable(base, lora, seed=1, quantization=quantization)
    pack = build_pack(make_groups(answers_per_prompt))

    def step() -> None:
        pack_loss(model, pack).backward()

    return step


def measure(step: Callable[[], None], repeats: int) -> dict[str, float]:
    """The best of `repeats` steps after one to warm up, in unshared tokens per second."""
    step()
    walls, processor = [], []
    for _ in range(repeats):
        wall, cpu = perf_counter(), process_time()
        step()
        walls.append(perf_counter() - wall)
        processor.append(process_time() - cpu)
    tokens = NUM_SEQUENCES * (PROMPT_TOKENS + ANSWER_TOKENS)
    return {
        "unshared_tokens_per_second": round(tokens / min(walls), 1),
        "unshared_tokens_per_cpu_second": round(tokens / min(processor), 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the speed of a training step.")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    ways: dict[str, Callable[[], Callable[[], None]]] = {
        "plain PEFT": lambda: plain_step(options.base, bf16_adapter=False, answer_logits=False),
        "PEFT, bf16 adapter, answer logits": lambda: plain_step(options.base, True, True),
        "packed": lambda: packed_step(options.base, 1),
        "packed, 4 answers a prompt": lambda: packed_step(options.base, 4),
        "packed, int8 base": lambda: packed_step(options.base, 1, "int8"),
        "packed, int8 base, layers from 8": lambda: packed_step(options.base, 1, "int8", 8),
        "packed, 4 answers a prompt, int8 base": lambda: packed_step(options.base, 4, "int8"),
        "packed, 4 answers a prompt, int8 base, layers from 8": lambda: packed_step(
            options.base, 4, "int8", 8
        ),
    }
    console, results = Console(stderr=True), dict[str, Any]()
    for name, build in ways.items():
        results[name] = measure(build(), options.repeats)
        console.print(f"{name:52} {results[name]}", markup=False, soft_wrap=True)
    facts = {"threads": torch.get_num_threads(), "machine": describe_machine(), "commit": current_commit()}
    sys.stdout.write(json.dumps({**facts, "results": results}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
