"""How the commands that make training rows end: a report as one line of JSON, or one sentence of what went wrong."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from specialists.evaluation.task import TaskDataError


def report_or_explain(run: Callable[[], Mapping[str, Any]]) -> int:
    """The exit status of `run`, whose report is printed; 1 when the data, the settings or the disk refused."""
    console = Console(stderr=True, soft_wrap=True)
    try:
        report = run()
    except (TaskDataError, ValueError, OSError, RuntimeError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    console.print(json.dumps(report), markup=False)
    return 0
