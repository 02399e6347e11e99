"""The page keeps its prose, and its tables say what the report says."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.page import SECTIONS, fill_page, write_pages

MEASURED = {
    "prompts": 10,
    "accuracy": 0.9,
    "source_accuracy_mean": 0.85,
    "macro_f1": 0.8,
    "ece": 0.0123,
    "by_source": {"a": {"prompts": 10, "accuracy": 0.9}},
    "confusion": {"intents": ["math", "general"], "rows_true_columns_predicted": [[4, 1], [0, 5]]},
}


@pytest.fixture
def report() -> dict[str, Any]:
    return {
        "sources": {"a": {"public_name": "someone/a", "intent": "math"}},
        "held_out": MEASURED,
        "eval": MEASURED,
        "baselines": {"frozen_probe": {**MEASURED, "accuracy": 0.5}},
        "reliability": [{"confidence": 0.5, "accuracy": 0.6, "prompts": 4}],
        "mistakes": [{"source": "a", "intent": "math", "routed_to": "general", "prompts": 1}],
        "out_of_scope": {"coverage": 0.95, "recall": 0.8, "recall_by_source": {"a": 0.8}, "as_served": 0.7},
        "stress": {"none": 0.9, "typos": 0.88},
        "chats": {"session": {"turns": 9, "bounce_rate": 0.1, "switch_when_due": 0.9, "accuracy": 0.8}},
        "banking": {
            "fits": {
                "head": {
                    "16": {
                        "recall": 0.9,
                        "recall_least": 0.8,
                        "cost_points": 0.25,
                        "cost_points_most": 0.5,
                        "specialist_cost_points": 0.0,
                        "fit_ms": 12.0,
                    }
                }
            }
        },
        "latency_ms": {"64": {"p50": 5.0, "p95": 6.0, "cpu_p50": 4.0}},
        "batch": {"prompts_per_second": 250.0},
    }


def test_everything_is_written(report: dict[str, Any], tmp_path: Path):
    out = tmp_path / "docs" / "router"
    write_pages(report, out)
    assert json.loads(out.with_suffix(".json").read_text()) == report
    page = out.with_suffix(".md").read_text()
    assert all(f"<!-- measured: {name} -->" in page for name in SECTIONS)
    for cell in (
        "| **delegator** | 90.0 | 85.0 | 80.0 | 0.012 |",
        "someone/a",
        "| typos | 88.0 | +2.0 |",
        "250 prompts/s",
    ):
        assert cell in page
    for name in ("router-confusion.png", "router-reliability.png"):
        picture = (tmp_path / "docs" / name).read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) < 100_000


def test_prose_is_kept_and_tables_are_replaced(report: dict[str, Any]):
    text = "Before\n<!-- measured: stress -->\nold\n<!-- end -->\nafter \\1\n<!-- measured: nothing -->\nx\n<!-- end -->\n"
    page = fill_page(text, report)
    assert page.startswith("Before\n") and "old" not in page and page.endswith("x\n<!-- end -->\n")
    assert "after \\1" in page
    assert fill_page(page, report) == page
    assert fill_page(page, {}) == page
