"""The picture of a run: loss and validation by step, from its metrics."""

import json
from pathlib import Path
from typing import Any

from specialists.training.metrics import METRICS_FILE

PLOT_FILE = "loss.png"


def plot_metrics(folder: Path) -> Path | None:
    """Draw `<folder>/loss.png` from `metrics.jsonl`; None when nothing was measured yet."""
    path = folder / METRICS_FILE
    if not path.exists():
        return None
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    validation = [(row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]
    if not losses and not validation:
        return None
    figure = _draw(losses, validation, [(row["step"], row["reward"]) for row in rows if "reward" in row])
    target = folder / PLOT_FILE
    figure.savefig(target, dpi=110)
    return target


def _draw(losses: list[Any], validation: list[Any], rewards: list[Any]) -> Any:
    # Without pyplot: no window system is looked for, and no figure is kept.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for points, style, label in ((losses, "-", "training loss"), (validation, "o--", "validation")):
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, linewidth=1.2, markersize=4)
    if rewards:
        axes.plot(*zip(*rewards, strict=True), "-", label="reward", linewidth=1.2)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
