"""Where measurements are kept, and what each says about where it comes from."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from specialists.evaluation.provenance import current_commit, describe_machine

RESULTS = Path(__file__).with_name("results")


def describe_run() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": current_commit(),
    }


def write_results(results: dict[str, Any], prefix: str = "") -> Path:
    """`bench/results/<prefix><date>-<machine>-<commit>.json`"""
    RESULTS.mkdir(exist_ok=True)
    machine = re.sub(r"[^a-z0-9]+", "-", results["machine"].lower()).strip("-")
    path = RESULTS / f"{prefix}{results['date'][:10]}-{machine}-{results['commit']}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return Path(os.path.relpath(path))
