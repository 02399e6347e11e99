"""Stop strings: found across pieces, never shown, nothing else held back for ever."""

from hypothesis import given
from hypothesis import strategies as st

from specialists.engine.stopping import StopChecker

LETTERS = st.text("ab", max_size=12)


def run(stop: tuple[str, ...], pieces: list[str]) -> tuple[str, bool]:
    checker = StopChecker(stop)
    released = ""
    for piece in pieces:
        text, met_stop = checker.feed(piece)
        released += text
        if met_stop:
            return released, True
    return released + checker.flush(), False


def test_stop_across_pieces():
    assert run(("END",), ["one E", "N", "D two"]) == ("one ", True)


def test_beginning_of_a_stop_string_is_held_back_and_released_when_it_was_none():
    checker = StopChecker(("END",))
    assert checker.feed("one E") == ("one ", False)
    assert checker.feed("gg") == ("Egg", False)


def test_earliest_of_several_stops_wins():
    assert run(("bb", "a"), ["xxbbxxa"]) == ("xx", True)


def test_without_stop_strings_text_passes_at_once():
    assert StopChecker(()).feed("anything") == ("anything", False)


@given(st.lists(LETTERS), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_pieces_do_not_matter(pieces: list[str], stop: list[str]):
    whole = "".join(pieces)
    ends = [whole.find(text) for text in stop if text in whole]
    expected = (whole[: min(ends)], True) if ends else (whole, False)
    released, met_stop = run(tuple(stop), pieces)
    # When one stop begins inside another that is longer, the pieces decide which is complete first.
    assert met_stop == expected[1]
    assert whole.startswith(released) and len(released) >= len(expected[0])
    assert not any(text in released for text in stop)
