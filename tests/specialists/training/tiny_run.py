"""A recipe that a tiny model learns in a second, and what its run wrote."""

import json

from specialists.training.run_folders import Folders

RECIPE = """
name = "tiny-math"
base = "tiny"
seed = 5
checkpoint_every_steps = 2
[[sources]]
path = "rows.jsonl"
templates = ["{question}", "Solve: {question}"]
[lora]
rank = 4
[optimizer]
lr = 5e-3
[batching]
epochs = 2
step_tokens = 300
pack_tokens = 160
max_seq_len = 120
[validation]
share = 0.2
every_steps = 3
[manifest]
intent = "math"
examples = ["What is 2 + 2?"]
"""


def read_metrics(folders: Folders) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folders.run / "metrics.jsonl").read_text().splitlines()]
