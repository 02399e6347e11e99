"""What a training step costs with TRL's trainers, in an environment that has TRL; ours is beside it.

    python -m bench.trl_steps sft|gkd|grpo --base <folder> [--teacher <folder>] [--steps 2]   (TRL's environment)
    python -m bench.trl_steps ours-sft|ours-distill|ours-grpo ...                              (either)

The sequences are those of `specialists.training.throughput`: 110 prompt and 150 answer tokens, four a step; GRPO
writes 8 answers of up to 64 tokens to each of two prompts. Processor seconds count, as this machine is shared; the
first step warms up and is left out. One line of JSON.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import torch

NUM_SEQUENCES, PROMPT_TOKENS, ANSWER_TOKENS = 4, 110, 150
GRPO_PROMPTS, GRPO_GENERATIONS, GRPO_TOKENS = 2, 8, 64


class _Clock:
    """The processor seconds of each step."""

    def __init__(self) -> None:
        self.marks = [process_time()]

    def mark(self) -> None:
        self.marks.append(process_time())

    @property
    def seconds(self) -> float:
        """Of the fastest step after the first."""
        steps = [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]
        return min(steps[1:] or steps)


def _callback(clock: _Clock) -> Any:
    from transformers import TrainerCallback

    class Mark(TrainerCallback):
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            clock.mark()

        def on_train_begin(self, *arguments: Any, **options: Any) -> None:
            clock.marks = [process_time()]

    return Mark()


def _options(steps: int) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(),
        "max_steps": steps + 1,
        "per_device_train_batch_size": NUM_SEQUENCES,
        "learning_rate": 1e-4,
        "bf16": True,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _lora() -> Any:
    from peft import LoraConfig

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM")


def _model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)


def _sequences() -> list[tuple[list[int], list[int]]]:
    generator = random.Random(20)
    draw = generator.randrange
    return [
        ([draw(300) for _ in range(PROMPT_TOKENS)], [draw(300) for _ in range(ANSWER_TOKENS)])
        for _ in range(NUM_SEQUENCES)
    ]


def trl_sft(options: argparse.Namespace) -> tuple[float, int]:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer)}
        for prompt, answer in _sequences()
    ]
    clock = _Clock()
    trainer = SFTTrainer(
        _model(options.base),
        args=SFTConfig(**_options(options.steps), completion_only_loss=True, max_length=512),
        train_dataset=Dataset.from_list(rows * (options.steps + 1)),
        processing_class=AutoTokenizer.from_pretrained(options.base),
        peft_config=_lora(),
        callbacks=[_callback(clock)],
    )
    trainer.train()
    return clock.seconds, NUM_SEQUENCES * (PROMPT_TOKENS + ANSWER_TOKENS)


def trl_gkd(options: argparse.Namespace) -> tuple[float, int]:
    """Off-policy (lmbda 0) with the teacher in memory, which reads every sequence at every step."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    words = " ".join(["word"] * 140)
    question = {"role": "user", "content": " ".join(["ask"] * 80)}
    rows = [{"messages": [question, {"role": "assistant", "content": words}]}] * NUM_SEQUENCES
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    num_tokens = sum(len(tokenizer.apply_chat_template(row["messages"], return_dict=False)) for row in rows)
    clock = _Clock()
    trainer = GKDTrainer(
        _model(options.base),
        teacher_model=_model(options.teacher),
        args=GKDConfig(**_options(options.steps), lmbda=0.0, beta=0.5, temperature=1.0, max_length=512),
        train_dataset=Dataset.from_list(rows * (options.steps + 1)),
        processing_class=tokenizer,
        peft_config=_lora(),
        callbacks=[_callback(clock)],
    )
    trainer.train()
    return clock.seconds, num_tokens


def trl_grpo(options: argparse.Namespace) -> tuple[float, int]:
    """Tokens are the written ones; generation is transformers'."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    written: list[int] = []

    def reward(completion_ids: list[list[int]], **others: Any) -> list[float]:
        written.append(sum(map(len, completion_ids)))
        return [float(len(set(ids))) for ids in completion_ids]

    prompts = [
        {"prompt": [{"role": "user", "content": f"Tell a story about the number {n}."}]} for n in range(8)
    ]
    clock = _Clock()
    settings = {**_options(options.steps), "per_device_train_batch_size": GRPO_PROMPTS * GRPO_GENERATIONS}
    trainer = GRPOTrainer(
        _model(options.base),
        reward_funcs=reward,
        args=GRPOConfig(
            **settings, num_generations=GRPO_GENERATIONS, max_completion_length=GRPO_TOKENS, beta=0.02
        ),
        train_dataset=Dataset.from_list(prompts),
        processing_class=AutoTokenizer.from_pretrained(options.base),
        peft_config=_lora(),
        callbacks=[_callback(clock)],
    )
    trainer.train()
    return clock.seconds, max(written)


def _time_steps(step: Callable[[], None], steps: int) -> float:
    clock = _Clock()
    for _ in range(steps + 1):
        step()
        clock.mark()
    return clock.seconds


def our_sft(options: argparse.Namespace) -> tuple[float, int]:
    from specialists.training.throughput import packed_step

    step = packed_step(options.base, 1)
    return _time_steps(step, options.steps), NUM_SEQUENCES * (PROMPT_TOKENS + ANSWER_TOKENS)


def our_distill(options: argparse.Namespace) -> tuple[float, int]:
    """The teacher has read the sequences once (not timed): that is what the cache is for."""
    from specialists.training.divergence import TeacherTerm
    from specialists.training.lora import load_trainable
    from specialists.training.losses import chunked_row_loss
    from specialists.training.method_sections import Distill
    from specialists.training.packing import build_pack
    from specialists.training.sections import Lora
    from specialists.training.teacher import LoadedTeacher
    from specialists.training.throughput import make_groups

    settings = Distill(divergence="jsd", top_k=32)
    model = load_trainable(options.base, Lora(rank=8), seed=1)
    pack = build_pack(make_groups(1))
    start = process_time()
    lesson = LoadedTeacher(options.teacher, settings, len(model.head), torch.bfloat16).teach(pack)
    sys.stderr.write(f"teacher loaded and read once: {process_time() - start:.1f} s\n")

    def step() -> None:
        term = TeacherTerm(lesson.ids.long(), lesson.log_probabilities, settings, 1.0)
        chunked_row_loss(model.predicting_states(pack), model.head, (term,)).backward()

    return _time_steps(step, options.steps), NUM_SEQUENCES * (PROMPT_TOKENS + ANSWER_TOKENS)


def our_grpo(options: argparse.Namespace) -> tuple[float, int]:
    from specialists.tokenizer import ChatTokenizer
    from specialists.training.data import PromptGroup
    from specialists.training.grpo import LogProbabilityReader, PolicyTerm
    from specialists.training.lora import load_trainable
    from specialists.training.losses import chunked_row_loss
    from specialists.training.packing import build_pack
    from specialists.training.rollout import Writer
    from specialists.training.sections import Lora

    model = load_trainable(options.base, Lora(rank=8), seed=1)
    tokenizer = ChatTokenizer.from_folder(options.base)
    writer = Writer(options.base, torch.bfloat16)
    stories = [f"Tell a story about the number {n}." for n in range(GRPO_PROMPTS)]
    asked = [tokenizer.encode_chat([{"role": "user", "content": story}]) for story in stories]
    prompts = [prompt for prompt in asked for _ in range(GRPO_GENERATIONS)]
    written: list[int] = []

    def step() -> None:
        writer.follow(model)
        answers = writer.write(prompts, GRPO_TOKENS, 1.0, range(len(prompts)))
        written.append(sum(len(answer.token_ids) for answer in answers))
        for number, prompt in enumerate(asked):
            own = answers[number * GRPO_GENERATIONS : (number + 1) * GRPO_GENERATIONS]
            pack = build_pack([PromptGroup(tuple(prompt), tuple(one.token_ids for one in own))])
            targets = torch.tensor(pack.targets)
            reader = LogProbabilityReader(targets, 1.0)
            with model.adapter_off():
                chunked_row_loss(model.predicting_states(pack), model.head, (reader,))
            term = PolicyTerm(targets, torch.randn(len(targets)), reader.values, 0.02, 1.0)
            chunked_row_loss(model.predicting_states(pack), model.head, (term,)).backward()

    return _time_steps(step, options.steps), max(written)


WAYS = {
    "sft": trl_sft,
    "gkd": trl_gkd,
    "grpo": trl_grpo,
    "ours-sft": our_sft,
    "ours-distill": our_distill,
    "ours-grpo": our_grpo,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=sorted(WAYS))
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    seconds, num_tokens = WAYS[options.way](options)
    rate = round(num_tokens / seconds, 1)
    print(
        json.dumps(
            {
                "way": options.way,
                "cpu_seconds": round(seconds, 1),
                "tokens": num_tokens,
                "per_cpu_second": rate,
            }
        )
    )


if __name__ == "__main__":
    main()
