"""The two pictures of the delegator's page, as small PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def draw_confusion(confusion: dict[str, Any], path: Path) -> None:
    """The confusion matrix in shares of the true intent, with counts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    intents: Sequence[str] = confusion["intents"]
    rows: Sequence[Sequence[int]] = confusion["rows_true_columns_predicted"]
    shares = [[count / max(1, sum(row)) for count in row] for row in rows]
    figure = Figure(figsize=(5.6, 5.0), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(intents)), intents, rotation=40, ha="right")
    axes.set_yticks(range(len(intents)), intents)
    axes.set_xlabel("routed to")
    axes.set_ylabel("belongs to")
    for y, row in enumerate(rows):
        for x, count in enumerate(row):
            if count:
                color = "white" if shares[y][x] > 0.5 else "black"
                axes.text(x, y, str(count), ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path)


def draw_reliability(bins: Sequence[dict[str, float]], path: Path) -> None:
    """Accuracy against confidence, with each bin's share of the prompts below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    confidences = [entry["confidence"] for entry in bins]
    above.plot([0, 1], [0, 1], color="gray", linestyle=":")
    above.plot(confidences, [entry["accuracy"] for entry in bins], marker="o")
    above.set_ylabel("accuracy")
    total = sum(entry["prompts"] for entry in bins)
    below.bar(confidences, [entry["prompts"] / total for entry in bins], width=0.05)
    below.set_ylabel("share")
    below.set_xlabel("confidence")
    figure.savefig(path)
