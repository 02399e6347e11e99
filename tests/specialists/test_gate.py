from typing import Any

import pytest

from specialists.gate import GateError, judge
from specialists.training.method_sections import Gate


def report(
    task: str, right: range, adapter: str | None, num_items: int = 200, **other: Any
) -> dict[str, Any]:
    return {
        "task": task,
        "split": "test",
        "model": "tiny",
        "adapter": adapter,
        "num_items": num_items,
        "seed": 20,
        "correct": [f"{task}/{number}" for number in right],
        **other,
    }


def pair(task: str, base: range, specialist: range, **other: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return report(task, base, None, **other), report(task, specialist, "new", **other)


GATE = Gate(own=("own",), others=("other",), tolerance=0.02)
GAIN, STILL = pair("own", range(60), range(100)), pair("other", range(50), range(49))


def test_a_clear_gain_without_a_loss_passes() -> None:
    verdict = judge(GATE, [GAIN, STILL])
    assert verdict.passes and not verdict.refusals
    assert verdict.own.mean == pytest.approx(0.2)
    assert verdict.own.low > 0.1
    assert verdict.tasks["other"].mean == pytest.approx(-0.005)
    assert verdict.lines()[0].startswith("own domain: +20.0 points [+1")


def test_a_gain_within_the_noise_is_refused() -> None:
    """Eleven gained and eight lost of two hundred: better, but not certainly."""
    verdict = judge(GATE, [pair("own", range(60), range(8, 71)), STILL])
    assert verdict.own.mean == pytest.approx(0.015)
    assert not verdict.passes
    assert "on its own domain it gains +1.5 points [-" in verdict.refusals[0]


def test_a_loss_elsewhere_is_refused() -> None:
    verdict = judge(GATE, [GAIN, pair("other", range(50), range(44))])
    assert verdict.refusals == ("on other it loses 3.0 points; 2.0 are allowed",)


def test_a_version_that_is_worse_than_the_published_one_is_refused() -> None:
    better, same, worse = (report("own", range(right), "old") for right in (104, 100, 96))
    verdict = judge(GATE, [GAIN, STILL], [better])
    assert verdict.over_published is not None and verdict.over_published.mean == pytest.approx(-0.02)
    assert not verdict.passes and "stands -2.0 points [" in verdict.refusals[0]
    assert judge(GATE, [GAIN, STILL], [same]).passes
    assert "beside the published version: +2.0 points" in judge(GATE, [GAIN, STILL], [worse]).lines()[-1]
    with pytest.raises(GateError, match="the report of old has num_items 100, the specialist's 200"):
        judge(GATE, [GAIN, STILL], [report("own", range(60), "old", num_items=100)])


def test_an_exception_lets_it_pass_and_is_told() -> None:
    gate = GATE.model_copy(update={"exception": "It was published before the gate."})
    verdict = judge(gate, [pair("own", range(60), range(60)), STILL])
    assert verdict.passes and verdict.refusals
    assert verdict.lines()[-1] == "let through by a recorded exception: It was published before the gate."


def test_tasks_of_one_domain_count_alike_whatever_their_size() -> None:
    gate = Gate(own=("large", "small"))
    large = pair("large", range(100), range(100), num_items=900)
    small = pair("small", range(10), range(40), num_items=100)
    verdict = judge(gate, [large, small])
    assert verdict.own.mean == pytest.approx(0.15)
    assert verdict.own.low > 0


def test_partial_credit_is_compared_where_there_is_some() -> None:
    before = {f"own/{n}": 0.2 for n in range(50)}
    after = {f"own/{n}": 0.6 for n in range(50)}
    base = report("own", range(0), None, num_items=50, scores=before)
    specialist = report("own", range(0), "new", num_items=50, scores=after)
    assert judge(Gate(own=("own",)), [(base, specialist)]).own.mean == pytest.approx(0.4)


def test_reports_that_cannot_be_compared_are_named() -> None:
    with pytest.raises(GateError, match="no reports on other; the gate asks for them"):
        judge(GATE, [GAIN])
    with pytest.raises(GateError, match="num_items 200, the specialist's 100"):
        judge(GATE, [(GAIN[0], {**GAIN[1], "num_items": 100})])
    with pytest.raises(GateError, match="expected the base's report first"):
        judge(GATE, [GAIN[::-1], STILL])
