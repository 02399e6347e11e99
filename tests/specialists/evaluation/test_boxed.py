import pytest

from specialists.evaluation.boxed import find_boxed


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"so \boxed{4}", ["4"]),
        (r"\boxed{1} and then \boxed{\frac{1}{2}}.", ["1", r"\frac{1}{2}"]),
        (r"\boxed {\text{(A)}}", [r"\text{(A)}"]),
        (r"\boxed{\sqrt{\frac{1}{2}}}", [r"\sqrt{\frac{1}{2}}"]),
        (r"\boxed{3} and \boxed{cut", ["3"]),
        (r"\boxed{cut", []),
        (r"\boxed{}", []),
        ("4", []),
    ],
)
def test_closed_boxes(text: str, boxed: list[str]):
    assert find_boxed(text) == boxed
