"""Which answers a model already half knows: the probability it gives the right one, read and not sampled.

    python -m specialists.training.known_facts --task triviaqa --task opentriviaqa_short --model BASE \\
        --data ../shared/data --out known.jsonl [--limit 8000] [--at-least 0.02] [--quantization int8]

Facts that a model does not know at all teach it little but to make things up; those it half knows teach it to say what it
knows (arXiv:2405.05904). One pass over question and answer costs what sampling one answer does.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import track
from torch import Tensor

from specialists.evaluation.item_order import shuffle_items
from specialists.evaluation.short_answer import ShortAnswer, ShortItem
from specialists.evaluation.task_registry import TASKS, get_task
from specialists.tokenizer import ChatTokenizer
from specialists.training.data import PromptGroup, Row, render_groups
from specialists.training.grpo import read_base
from specialists.training.lora import load_trainable
from specialists.training.packing import Pack, pack_groups
from specialists.training.reporting import report_or_explain
from specialists.training.sections import BaseQuantization, Lora
from specialists.training.solutions import write_solutions

_PACK_TOKENS = 1536
_MAX_SEQ_LEN = 256

# The natural logarithms of the probabilities of a pack's targets, [num_targets].
ReadTargets = Callable[[Pack], Tensor]


@dataclass(frozen=True, slots=True)
class Fact:
    """A question as it is asked in evaluation, its answer, and the probability of just these tokens."""

    item: ShortItem
    prompt: str
    probability: float

    def row(self) -> dict[str, Any]:
        return {
            "id": self.item.id,
            "question": self.item.question,
            "prompt": self.prompt,
            "completion": self.item.answers[0],
            "probability": round(self.probability, 5),
        }


def read_facts(
    task: ShortAnswer, items: Sequence[ShortItem], tokenizer: ChatTokenizer, read: ReadTargets
) -> Iterator[Fact]:
    """Each question with its answer's probability, without that of ending there; repeated and too long ones are left out."""
    prompts = [task.prompt(item)[-1]["content"] for item in items]
    item_of: dict[PromptGroup, tuple[ShortItem, str]] = {}
    for item, prompt in zip(items, prompts, strict=True):
        row = Row(item.id, item.answers[0], {"prompt": prompt}, (), ("{prompt}",))
        for group in render_groups([row], tokenizer, 0, 0, _MAX_SEQ_LEN):
            item_of[group] = (item, prompt)
    for pack in track(
        pack_groups(list(item_of), _PACK_TOKENS, seed=0), task.name, console=Console(stderr=True)
    ):
        values, place = read(pack), 0
        for group in pack.groups:
            length = len(group.answers[0])
            answer = values[place : place + length - 1]  # the last token ends the turn
            place += length
            yield Fact(*item_of[group], probability=float(answer.sum().exp()))


def model_reader(model: Path, quantization: BaseQuantization) -> ReadTargets:
    """Reads with the bare model in `model`. Raises OSError when there is none."""
    base = load_trainable(model, Lora(rank=1), seed=0, quantization=quantization)
    return partial(read_base, base)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    tokenizer = ChatTokenizer.from_folder(options.model)
    read = model_reader(options.model, options.quantization)
    facts: list[Fact] = []
    for name in options.task:
        task = get_task(name, "train")
        if not isinstance(task, ShortAnswer):
            raise ValueError(f"task {name} is not answered with a name, word or number")
        items = shuffle_items(task.load(options.data), options.seed, options.limit)
        facts += read_facts(task, items, tokenizer, read)
    kept = [fact for fact in facts if fact.probability >= options.at_least]
    report = {
        "tasks": options.task,
        "model": options.model.resolve().name,
        "quantization": options.quantization,
        "seed": options.seed,
        "limit": options.limit,
        "at_least": options.at_least,
        "num_read": len(facts),
        "num_kept": len(kept),
        "share_above": {
            str(bound): round(sum(fact.probability >= bound for fact in facts) / max(len(facts), 1), 4)
            for bound in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
        },
    }
    write_solutions(options.out, [fact.row() for fact in kept], report)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Find the training questions whose answers a model half knows."
    )
    parser.add_argument("--task", action="append", choices=sorted(TASKS), required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the public data sets")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl of rows to write")
    parser.add_argument("--limit", type=int, help="only N questions of each task, drawn with the seed")
    parser.add_argument("--at-least", type=float, default=0.02, help="probability of the answers to keep")
    parser.add_argument("--quantization", choices=get_args(BaseQuantization), default="none")
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args(arguments)
    return report_or_explain(partial(_run, options))


if __name__ == "__main__":
    sys.exit(main())
