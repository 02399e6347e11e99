import pytest

from specialists.evaluation.arithmetic import format_value, run_steps


def test_steps_show_their_numbers():
    steps = run_steps("x0 = 60.94 - 25.14; ans = x0 / 25.14")
    assert [written for written, _ in steps] == ["60.94 - 25.14", "35.8 / 25.14"]
    assert steps[-1][1] == pytest.approx(1.42403, abs=1e-5)


@pytest.mark.parametrize(
    ("program", "value"),
    [("ans = -3", -3.0), ("ans = 2 ** 3", 8.0), ("ans = (1 + 2) * 3", 9.0), ("ans = 2 > 1", "yes"), ("ans = 2 < 1", "no")],
)  # fmt: skip
def test_values(program: str, value: float | str):
    assert run_steps(program)[-1][1] == value


@pytest.mark.parametrize(
    "program",
    ["ans = open('x')", "import os", "ans = 1 / 0", "ans = y", "ans = 'a'", "ans = (", "ans = 9.0 ** 999"],
)
def test_anything_else_is_refused(program: str):
    with pytest.raises(ValueError, match=r".+"):
        run_steps(program)


def test_values_are_written_short():
    assert [format_value(value) for value in (2.0, 1.42402545, -0.5, "yes")] == [
        "2",
        "1.42403",
        "-0.5",
        "yes",
    ]
