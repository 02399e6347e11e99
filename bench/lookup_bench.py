"""What guessing by prompt lookup is worth: one stream with and without it, on three kinds of prompts.

Both engines answer in turn, so that a machine that slows down slows both. Greedy; the tokens may differ where two are nearly
tied (README.md, "Same tokens"), so the share of answers that are equal is reported beside the speed.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from specialists.engine.config import EngineConfig
from specialists.engine.llm_engine import Completion, LLMEngine
from specialists.engine.sampling_params import SamplingParams

ROUNDS = 2
_PARAMS = SamplingParams(temperature=0, max_tokens=160)
_CODE = '''
def total_by_customer(orders, minimum=0.0):
    """Sum the amounts of all orders of each customer, leaving out those below the minimum."""
    totals = {}
    for order in orders:
        customer = order["customer"]
        amount = float(order["amount"])
        if amount < minimum:
            continue
        if customer not in totals:
            totals[customer] = 0.0
        totals[customer] += amount
    return totals
'''
KINDS = {
    "edit": (
        f"Rename the variable `totals` to `sums` and return the whole function:\n```python{_CODE}```",
        f"Add type hints to this function and return all of it:\n```python{_CODE}```",
    ),
    "reason": (
        "A baker sells 12 loaves an hour at 3 dollars each, six hours a day. Flour costs 40 dollars a day. "
        "What does the baker earn in five days? Think step by step.",
        "A train covers 60 km in the first hour and 15 km more in each following hour. How far is it after four hours? "
        "Think step by step.",
    ),
    "write": (
        "Tell a short story about a lighthouse keeper who finds a letter.",
        "What should I think of when I move to another city?",
    ),
}


def measure_lookup(base: Path, config: EngineConfig) -> Iterator[dict[str, Any]]:
    """Yield one row per kind of prompt: tokens a second of one stream without and with guesses, and how many were equal."""
    engines = {
        "plain": LLMEngine(base, replace(config, max_draft_rows=0)),
        "guessing": LLMEngine(base, replace(config, max_draft_rows=8)),
    }
    for kind, questions in KINDS.items():
        seconds = dict.fromkeys(engines, 0.0)
        tokens = dict.fromkeys(engines, 0)
        num_equal = 0
        for question in questions * ROUNDS:
            answers: dict[str, Completion] = {}
            for name, engine in engines.items():
                prompt = engine.tokenizer.encode_chat([{"role": "user", "content": question}])
                start = time.perf_counter()
                (answers[name],) = engine.generate([prompt], _PARAMS)
                seconds[name] += time.perf_counter() - start
                tokens[name] += len(answers[name].token_ids)
            num_equal += answers["plain"].token_ids == answers["guessing"].token_ids
        rates = {name: tokens[name] / seconds[name] for name in engines}
        yield {
            "kind": kind,
            **{f"{name}_tokens_per_second": round(rate, 1) for name, rate in rates.items()},
            "ratio": round(rates["guessing"] / rates["plain"], 2),
            "equal_answers": f"{num_equal} of {len(questions) * ROUNDS}",
        }
