"""Writes an evaluation as one JSON, two pictures and one page.

The page's prose is written by hand; its tables lie between `<!-- measured: NAME -->` and `<!-- end -->` and are replaced.
A page that does not exist yet is made of the tables alone.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from router.figures import draw_confusion, draw_reliability

Report = dict[str, Any]


def write_pages(report: Report, out: Path) -> None:
    """Writes `out`.json, `out`.md, `out`-confusion.png and `out`-reliability.png."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw_confusion(report["held_out"]["confusion"], out.with_name(f"{out.name}-confusion.png"))
    draw_reliability(report["reliability"], out.with_name(f"{out.name}-reliability.png"))
    page = out.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else _skeleton()
    page.write_text(fill_page(text, report), encoding="utf-8")


def fill_page(text: str, report: Report) -> str:
    """The text with every measured section it names written anew; one whose figures are missing stays as it is."""
    for name, (section, needs) in SECTIONS.items():
        if all(report.get(key) for key in needs):
            pattern = rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)"
            # A replacement string's backslashes would be read as groups.
            body = section(report).replace("\\", r"\\")
            text = re.sub(pattern, rf"\g<1>{body}\n\g<2>", text, flags=re.DOTALL)
    return text


def _skeleton() -> str:
    parts = [f"## {name}\n\n<!-- measured: {name} -->\n<!-- end -->\n" for name in SECTIONS]
    return "# The delegator, measured\n\n" + "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _accuracy(report: Report) -> str:
    found = [*report.get("baselines", {}).items(), ("**delegator**", report["held_out"])]
    keys = ("accuracy", "source_accuracy_mean", "macro_f1")
    rows = [[name, *(_percent(m[key]) for key in keys), f"{m['ece']:.3f}"] for name, m in found]
    return _table(["", "accuracy", "mean over sources", "macro-F1", "ECE"], rows)


def _sources(report: Report) -> str:
    frozen = report.get("baselines", {}).get("frozen_probe", {}).get("by_source", {})
    rows = []
    for name, measured in report["held_out"]["by_source"].items():
        about = report["sources"].get(name, {"public_name": "", "intent": ""})
        probe = _percent(frozen[name]["accuracy"]) if name in frozen else ""
        accuracy = _percent(measured["accuracy"])
        rows.append(
            [f"`{name}`", about["public_name"], about["intent"], measured["prompts"], probe, accuracy]
        )
    return _table(["source", "public name", "intent", "prompts", "frozen probe", "delegator"], rows)


def _confusion(report: Report) -> str:
    confusion = report["held_out"]["confusion"]
    rows = zip(confusion["intents"], confusion["rows_true_columns_predicted"], strict=True)
    return _table(["belongs to \\ routed to", *confusion["intents"]], [[name, *row] for name, row in rows])


def _evaluation(report: Report) -> str:
    measured = report["eval"]
    rows = [[f"`{n}`", m["prompts"], _percent(m["accuracy"])] for n, m in measured["by_source"].items()]
    total = [["all", measured["prompts"], _percent(measured["accuracy"])]]
    return _table(["rows marked eval", "prompts", "accuracy"], [*rows, *total])


def _scope(report: Report) -> str:
    scope = report["out_of_scope"]
    rows = [[f"`{name}`", _percent(recall)] for name, recall in scope["recall_by_source"].items()]
    rows += [["all", _percent(scope["recall"])], ["all, as served", _percent(scope["as_served"])]]
    return _table([f"out of scope, at {_percent(scope['coverage'])}% coverage", "recall"], rows)


def _stress(report: Report) -> str:
    untouched = report["stress"]["none"]
    rows = [
        [name, _percent(accuracy), f"{100 * (untouched - accuracy):+.1f}"]
        for name, accuracy in report["stress"].items()
    ]
    return _table(["change", "accuracy", "points lost"], rows)


def _chats(report: Report) -> str:
    keys = ("turns", "bounce_rate", "switch_when_due", "accuracy")
    rows = [
        [name, m["turns"], *(_percent(m[key]) for key in keys[1:])] for name, m in report["chats"].items()
    ]
    return _table(["routing", "turns", "bounces", "switches when due", "turns right"], rows)


def _banking(report: Report) -> str:
    rows = []
    for fit, sizes in report["banking"]["fits"].items():
        for size, m in sizes.items():
            recall = f"{_percent(m['recall'])} ({_percent(m['recall_least'])})"
            cost = f"{m['cost_points']:.2f} ({m['cost_points_most']:.2f})"
            rows.append([fit, size, recall, cost, f"{m['specialist_cost_points']:.2f}", f"{m['fit_ms']:.0f}"])
    return _table(
        ["way", "examples", "recall (least)", "points others lose (most)", "specialists lose", "fit ms"], rows
    )


def _latency(report: Report) -> str:
    rows = [
        [tokens, f"{m['p50']:.1f}", f"{m['p95']:.1f}", f"{m['cpu_p50']:.1f}"]
        for tokens, m in report["latency_ms"].items()
    ]
    rate = f"\n\nBatch: {report['batch']['prompts_per_second']:.0f} prompts/s."
    return _table(["tokens", "p50 ms", "p95 ms", "processor p50 ms"], rows) + rate


def _mistakes(report: Report) -> str:
    rows = [[f"`{m['source']}`", m["intent"], m["routed_to"], m["prompts"]] for m in report["mistakes"][:14]]
    return _table(["source", "belongs to", "routed to", "prompts"], rows)


# Name in the page -> what writes it, and the parts of the report it needs.
SECTIONS: dict[str, tuple[Callable[[Report], str], tuple[str, ...]]] = {
    "accuracy": (_accuracy, ("held_out",)),
    "sources": (_sources, ("held_out",)),
    "confusion": (_confusion, ("held_out",)),
    "mistakes": (_mistakes, ("mistakes",)),
    "eval": (_evaluation, ("eval",)),
    "out of scope": (_scope, ("out_of_scope",)),
    "stress": (_stress, ("stress",)),
    "conversations": (_chats, ("chats",)),
    "banking": (_banking, ("banking",)),
    "latency": (_latency, ("latency_ms", "batch")),
}
