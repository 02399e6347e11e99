"""Adding intents: what the new row learns, what it may cost, and that it goes without a trace."""

import threading
from pathlib import Path

import numpy as np
import pytest

from router.bank import Bank, load_bank, nearest_rows, save_bank
from router.decision import RoutingOptions
from router.delegator import Delegator
from router.errors import DelegatorError
from router.hot import Fit, fit_head, fit_prototype
from router.intent_set import IntentSet

HIDDEN = 24
TRAINED = ("math", "code", "general")


def _around(center: int, rows: int, seed: int) -> np.ndarray:
    """Vectors of two depths, [rows, 2 * HIDDEN]: unit vectors around one axis each."""
    rng = np.random.default_rng(seed)
    vectors = np.eye(HIDDEN)[center] * 2 + rng.normal(size=(rows, 2, HIDDEN)) * 0.15
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).reshape(rows, 2 * HIDDEN)


@pytest.fixture
def known() -> IntentSet:
    """Three intents around three axes, with a bank of 60 rows to fit and 60 to check."""
    vectors = np.concatenate([_around(label, 40, label) for label in range(3)])
    labels = np.repeat(np.arange(3), 40)
    is_check = np.arange(120) % 2 == 1
    texts = tuple("" if check else f"text {row}" for row, check in enumerate(is_check))
    weight = np.eye(HIDDEN)[:3] * 8
    bank = Bank(vectors, labels, is_check, texts)
    return IntentSet(trained=TRAINED, weight=weight, bias=np.zeros(3), temperature=1.0, bank=bank)


@pytest.mark.parametrize("fit", [fit_head, fit_prototype])
@pytest.mark.parametrize("count", [8, 16, 32, 300])
def test_a_new_intent_is_found_and_the_others_keep_theirs(known: IntentSet, fit: Fit, count: int):
    after = known.with_intent("banking", "", ["x"] * count, _around(7, count, 99), fit)
    assert after.names == (*TRAINED, "banking")
    found = after.logits(_around(7, 200, 5)).argmax(axis=1)
    assert (found == 3).mean() > 0.95
    assert after.check_accuracy() >= known.check_accuracy() - 0.05  # three of the 60 rows of this small bank
    assert np.allclose(after.probabilities(_around(0, 9, 1)).sum(axis=1), 1.0)


def test_an_intent_like_another_costs_it(known: IntentSet):
    after = known.with_intent("also math", "", ["x"] * 32, _around(0, 32, 99))
    assert after.check_accuracy() <= known.check_accuracy()
    assert after.check_accuracy(only_specialists=True) <= 1.0


def test_removed_is_as_if_never_added(known: IntentSet):
    banking, travel = _around(7, 16, 1), _around(9, 16, 2)
    only_travel = known.with_intent("travel", "", ["t"] * 16, travel)
    both = known.with_intent("banking", "", ["b"] * 16, banking).with_intent("travel", "", ["t"] * 16, travel)
    assert both.names == (*TRAINED, "banking", "travel")
    rest = both.without_intent("banking")
    vectors = _around(7, 20, 3)
    assert np.array_equal(rest.logits(vectors), only_travel.logits(vectors))
    assert rest.without_intent("travel").logits(vectors).tolist() == known.logits(vectors).tolist()
    assert known.without_intent("nobody") is known


def test_added_twice_is_replaced(known: IntentSet):
    once = known.with_intent("banking", "", ["a"] * 8, _around(7, 8, 1))
    twice = once.with_intent("banking", "", ["b"] * 8, _around(9, 8, 1))
    assert [intent.examples[0] for intent in twice.hot] == ["b"]


def test_nothing_is_added_without_a_bank():
    bare = IntentSet(trained=TRAINED, weight=np.eye(HIDDEN)[:3], bias=np.zeros(3), temperature=1.0)
    with pytest.raises(ValueError, match="bank"):
        bare.with_intent("banking", "", ["x"], _around(7, 1, 1))


def test_the_nearest_examples_are_told_with_their_intent(known: IntentSet):
    after = known.with_intent("banking", "", [f"card {n}" for n in range(8)], _around(7, 8, 1))
    nearest = after.nearest(_around(7, 1, 50)[0], 3)
    assert [example.intent for example in nearest] == ["banking"] * 3
    assert nearest[0].similarity >= nearest[1].similarity
    assert after.nearest(_around(1, 1, 50)[0], 1)[0].intent == "code"


def test_a_bank_survives_its_files(known: IntentSet, tmp_path: Path):
    assert known.bank is not None
    save_bank(tmp_path, known.bank, "abc")
    read = load_bank(tmp_path, "abc", 2 * HIDDEN)
    assert np.allclose(read.vectors, known.bank.vectors, atol=0.01)
    assert read.labels.tolist() == known.bank.labels.tolist()
    assert read.texts == known.bank.texts
    assert read.is_check.tolist() == known.bank.is_check.tolist()


def test_a_bank_of_other_weights_is_refused(known: IntentSet, tmp_path: Path):
    assert known.bank is not None
    save_bank(tmp_path, known.bank, "abc")
    with pytest.raises(DelegatorError, match=r"bank\.json belongs to the trained part abc"):
        load_bank(tmp_path, "xyz", 2 * HIDDEN)
    with pytest.raises(DelegatorError, match=r"bank\.safetensors holds vectors \[120, 48\], not \[120, 24\]"):
        load_bank(tmp_path, "abc", HIDDEN)
    (tmp_path / "bank.safetensors").write_bytes(b"broken")
    with pytest.raises(DelegatorError, match=r"bank\.safetensors"):
        load_bank(tmp_path, "abc", 2 * HIDDEN)
    (tmp_path / "bank.json").write_text("[]")
    with pytest.raises(DelegatorError, match=r"bank\.json"):
        load_bank(tmp_path, "abc", 2 * HIDDEN)


def test_nearest_rows():
    vectors = np.eye(4)
    assert nearest_rows(vectors, np.array([0.0, 1.0, 0.0, 0.0]), 1) == [(1, 1.0)]
    assert len(nearest_rows(vectors, np.ones(4) / 2, 9)) == 4


EXAMPLES = [f"my card {word}" for word in ("was lost", "is broken", "expired", "was stolen", "has no chip")]


@pytest.fixture
def delegator(tiny_encoder: Path, tiny_weights: Path) -> Delegator:
    return Delegator.from_folder(tiny_encoder, tiny_weights)


def test_the_delegator_adds_and_removes(delegator: Delegator):
    before = delegator.route_text("what is the sum")
    outcome = delegator.add_intent("banking", "cards", EXAMPLES, force=True)
    assert outcome.accepted and outcome.name == "banking"
    assert outcome.ms > 0
    assert delegator.intents[-1] == "banking"
    decision = delegator.route_text(EXAMPLES[0], RoutingOptions(explain=True))
    assert "banking" in decision.scores
    assert decision.nearest[0].text == EXAMPLES[0]
    assert decision.nearest[0].similarity == pytest.approx(1.0)
    assert delegator.remove_intent("banking") is True
    assert delegator.remove_intent("banking") is False
    assert dict(delegator.route_text("what is the sum").scores) == dict(before.scores)


@pytest.mark.parametrize("limit", [0.0, 0.02, 0.1])
def test_an_added_intent_takes_no_more_than_it_may(known: IntentSet, limit: float):
    greedy = known.with_intent("also math", "", ["x"] * 32, _around(0, 32, 99))
    spared = greedy.sparing(limit)
    assert spared.check_accuracy() >= known.check_accuracy() - limit - 1e-9
    assert spared.hot[-1].row.bias <= greedy.hot[-1].row.bias


def test_one_that_takes_too_little_to_matter_is_as_it_was(known: IntentSet):
    added = known.with_intent("banking", "", ["x"] * 32, _around(7, 32, 99))
    assert added.sparing(0.1) is added


def test_what_does_not_find_its_own_examples_is_refused(
    delegator: Delegator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("router.delegator.LEAST_RECALL", 1.1)
    refused = delegator.add_intent("banking", "cards", EXAMPLES)
    assert not refused.accepted
    assert "refused" in refused.message
    assert "banking" not in delegator.intents
    assert delegator.add_intent("banking", "cards", EXAMPLES, force=True).accepted
    assert "banking" in delegator.intents


@pytest.mark.parametrize(
    ("name", "examples", "problem"),
    [
        ("math", EXAMPLES, "'math' cannot be added"),
        ("  ", EXAMPLES, "cannot be added"),
        ("banking", EXAMPLES[:3], "has 3 different examples"),
        ("banking", [EXAMPLES[0]] * 9, "has 1 different examples"),
        ("banking", ["", "  ", "\x00", "a"], "has 1 different examples"),
        ("banking", [], "has 0 different examples"),
    ],
)
def test_what_cannot_be_added(delegator: Delegator, name: str, examples: list[str], problem: str):
    with pytest.raises(DelegatorError, match=problem):
        delegator.add_intent(name, "", examples)


def test_serving_goes_on_while_intents_come_and_go(delegator: Delegator):
    expected = {len(delegator.intents), len(delegator.intents) + 1}
    done = threading.Event()
    problems: list[str] = []

    def serve() -> None:
        while not done.is_set():
            scores = delegator.route_text("what is the sum of a card").scores
            if len(scores) not in expected or abs(sum(scores.values()) - 1) > 1e-6:
                problems.append(str(scores))

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        delegator.add_intent("banking", "cards", EXAMPLES, force=True)
        delegator.remove_intent("banking")
    done.set()
    for thread in threads:
        thread.join()
    assert not problems
