"""Delegator: the contract's behavior on a tiny random encoder, and the eight example prompts on the real
weights.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.decision import RoutingOptions, RoutingReason, SessionState
from router.delegator import Delegator
from router.errors import DelegatorError
from router.intents import INTENTS

from .conftest import make_encoder

FORGETFUL = RoutingOptions(remember=False)


def test_a_prompt_gets_a_distribution_and_a_decision(tiny_delegator: Delegator):
    decision = tiny_delegator.route_text("what is the sum")
    assert tuple(decision.scores) == tiny_delegator.intents == INTENTS
    assert sum(decision.scores.values()) == pytest.approx(1.0)
    assert decision.confidence == max(decision.scores.values()) == decision.scores[decision.intent]
    assert decision.threshold == 0.5
    assert decision.route_ms > 0


def test_one_message_and_its_text_are_routed_alike(tiny_delegator: Delegator):
    text = "write a poem"
    by_message = tiny_delegator.route([{"role": "user", "content": text}])
    assert dict(by_message.scores) == dict(tiny_delegator.route_text(text).scores)


def test_the_message_before_matters_and_other_roles_do_not(tiny_delegator: Delegator):
    alone = tiny_delegator.route([{"role": "user", "content": "why"}])
    with_bot = tiny_delegator.route(
        [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "why"},
            {"role": "assistant", "content": "so"},
        ]
    )
    after = tiny_delegator.route([{"role": "user", "content": "the sum"}, {"role": "user", "content": "why"}])
    assert dict(alone.scores) == dict(with_bot.scores)
    assert dict(alone.scores) != dict(after.scores)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\x00\x01"])
def test_nothing_to_read_goes_to_general(tiny_delegator: Delegator, text: str):
    decision = tiny_delegator.route_text(text)
    assert (decision.intent, decision.accepted, decision.reason) == ("general", False, RoutingReason.EMPTY)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "what is " * 50_000,
        "🙂" * 100_000,
        "\x00" * 20_000 + "sum",
        "\ud800 sum",
        "‮ sum ￿",
        "[CLS] [SEP]",
    ],
)
def test_hard_texts_are_survived(tiny_delegator: Delegator, text: str):
    decision = tiny_delegator.route_text(text)
    assert decision.reason not in {RoutingReason.EMPTY, RoutingReason.SESSION}
    assert sum(decision.scores.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{}],
        [{"role": "system", "content": "be brief"}],
        [{"role": "tool", "content": "42", "tool_call_id": "x"}],
        [{"role": "wizard", "content": "what is the sum"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 17}],
        [{"role": "user", "content": [3, None, {"type": "text"}, {"type": "text", "text": 5}]}],
        ["what is the sum"],
        [None],
    ],
)
def test_messages_without_user_text_are_empty(tiny_delegator: Delegator, messages: list[Any]):
    decision = tiny_delegator.route(messages)
    assert (decision.intent, decision.accepted, decision.reason) == ("general", False, RoutingReason.EMPTY)


def test_a_batch_decides_as_each_alone(tiny_delegator: Delegator):
    conversations = [
        [{"role": "user", "content": text}] for text in ("what is the sum", "", "write a poem", "x" * 900)
    ]
    conversations.append([*conversations[0], *conversations[2]])
    together = tiny_delegator.route_many(conversations, FORGETFUL)
    alone = [tiny_delegator.route(messages, FORGETFUL) for messages in conversations]
    for one, other in zip(together, alone, strict=True):
        assert (one.intent, one.reason) == (other.intent, other.reason)
        assert dict(one.scores) == pytest.approx(dict(other.scores), abs=1e-2)
    assert tiny_delegator.route_many([]) == []


def test_candidates_restrict_the_choice(tiny_delegator: Delegator):
    options = RoutingOptions(candidates=frozenset({"math", "code"}), remember=False)
    decision = tiny_delegator.route_text("what is the sum", options)
    assert set(decision.scores) == {"math", "code", "general"}
    assert sum(decision.scores.values()) == pytest.approx(1.0)
    nobody = RoutingOptions(candidates=frozenset({"unheard of"}), remember=False)
    assert tiny_delegator.route_text("what is the sum", nobody).reason is RoutingReason.OUT_OF_SCOPE


def test_explained_decisions_name_examples(tiny_delegator: Delegator):
    plain = tiny_delegator.route_text("what is the sum", FORGETFUL)
    explained = tiny_delegator.route_text("what is the sum", RoutingOptions(explain=True, remember=False))
    assert plain.nearest == ()
    assert len(explained.nearest) == 5
    assert all(-1.001 <= example.similarity <= 1.001 for example in explained.nearest)


def _sticky(tiny_encoder: Path, tiny_weights: Path) -> Delegator:
    """A delegator whose decisions on the tiny encoder are all accepted, and whose conversations never leave."""
    delegator = Delegator.from_folder(tiny_encoder, tiny_weights, threshold=0.0)
    delegator.policy = replace(delegator.policy, margin=0.0, switch=1.0, stands_alone=1.0)
    return delegator


def test_a_conversation_stays_by_name_and_by_history(tiny_encoder: Path, tiny_weights: Path):
    delegator = _sticky(tiny_encoder, tiny_weights)
    texts = [f"what is the {word} {n}" for n, word in enumerate(["sum", "poem", "a", "of", "write"] * 8)]
    first = next(t for t in texts if delegator.route_text(t, FORGETFUL).accepted)
    intent = delegator.route_text(first, FORGETFUL).intent
    other = next(t for t in texts if delegator.route_text(t, FORGETFUL).intent != intent)
    named = RoutingOptions(session="s")
    assert delegator.route_text(first, named).session is None
    stayed = delegator.route_text(other, named)
    assert stayed.session == SessionState(intent=intent, turns=1)
    assert stayed.intent == intent and stayed.accepted
    assert delegator.route_text(other, RoutingOptions(session="another")).session is None
    # A question about routing leaves no trace.
    asked = delegator.route_text(other, replace(named, remember=False)).session
    assert asked is not None and asked.turns == 2
    assert delegator.route_text(other, named).session == asked
    # By the history, which the client sends again.
    history = [{"role": "user", "content": first}]
    delegator.route(history)
    again = [*history, {"role": "assistant", "content": "so"}, {"role": "user", "content": other}]
    found = delegator.route(again).session
    assert found is not None and found.intent == intent


@given(st.text(alphabet=st.characters(), max_size=300))
def test_any_text_gets_a_decision(tiny_delegator: Delegator, text: str):
    assert tiny_delegator.route_text(text).intent in INTENTS


def test_threads_agree(tiny_delegator: Delegator):
    texts = [f"what is the sum of {n}" for n in range(40)]
    alone = [dict(tiny_delegator.route_text(text).scores) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: dict(tiny_delegator.route_text(text).scores), texts))
    assert together == alone


def test_the_threshold_can_be_replaced(tiny_encoder: Path, tiny_weights: Path):
    never = Delegator.from_folder(tiny_encoder, tiny_weights, threshold=1.0)
    decision = never.route_text("what is the sum")
    assert not decision.accepted
    assert decision.reason in {RoutingReason.LOW_CONFIDENCE, RoutingReason.OUT_OF_SCOPE}
    with pytest.raises(ValueError, match="threshold"):
        Delegator.from_folder(tiny_encoder, tiny_weights, threshold=1.5)


def test_weights_of_another_encoder_are_refused(tmp_path: Path, tiny_weights: Path):
    other = make_encoder(tmp_path / "other", seed=7)
    with pytest.raises(
        DelegatorError, match=r"router\.json was trained for the encoder.*model\.safetensors has"
    ):
        Delegator.from_folder(other, tiny_weights)


def test_an_encoder_that_is_not_bert_is_refused(tmp_path: Path, tiny_encoder: Path, tiny_weights: Path):
    encoder = Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    (encoder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(DelegatorError, match=r"config\.json.*qwen2"):
        Delegator.from_folder(encoder, tiny_weights)
    (encoder / "config.json").unlink()
    with pytest.raises(DelegatorError, match=r"no config\.json"):
        Delegator.from_folder(encoder, tiny_weights)


EXAMPLES = {
    "What is 17 * 23?": "math",
    "Natalia sold clips to 48 of her friends in April, and then half as many in May. How many did she sell?": "math",
    "Reverse a linked list in C++": "code",
    "Write a Python function that returns the n largest items of a list.": "code",
    "Where would you put a plate after washing it? (A) cupboard (B) garden (C) car (D) oven": "commonsense",
    "Who painted the Mona Lisa?": "knowledge",
    "What was the change in revenue from 2018 to 2019 given:\n| | 2018 | 2019 |\n| Revenue | 120 | 150 |": "finance",
    "¿Cuál es la capital de Francia?": "spanish",
    "Hi, how are you?": "general",
    "write me a poem": "general",
    "how do I make pancakes": "general",
    "hello": "general",
}


@pytest.fixture(scope="module")
def delegator(encoder_folder: Path) -> Delegator:
    return Delegator.from_folder(encoder_folder)


@pytest.mark.weights
@pytest.mark.parametrize(("text", "intent"), EXAMPLES.items())
def test_the_examples_go_where_they_belong(delegator: Delegator, text: str, intent: str):
    decision = delegator.route_text(text)
    assert decision.intent == intent
    assert decision.reason is (RoutingReason.OUT_OF_SCOPE if intent == "general" else RoutingReason.CONFIDENT)


@pytest.mark.weights
def test_a_follow_up_stays_and_a_new_subject_does_not(delegator: Delegator):
    def route(first: str, second: str) -> str:
        messages = [
            {"role": "user", "content": first},
            {"role": "assistant", "content": "Here it is."},
            {"role": "user", "content": second},
        ]
        return delegator.route(messages).intent

    assert route("Write a function that sorts a list in Python.", "Can you make it faster?") == "code"
    assert route("Write a function that sorts a list in Python.", "Who painted the Mona Lisa?") == "knowledge"
    assert route("Who painted the Mona Lisa?", "What is 17 * 23?") == "math"
    assert route("What is 17 * 23?", "and now make it shorter") == "math"
    assert route("Who painted the Mona Lisa?", "Reverse a linked list in C++") == "code"


@pytest.mark.weights
def test_the_question_after_a_long_passage_counts(delegator: Delegator):
    table = "\n".join(f"| Net sales | {n} | {n * 2} |" for n in range(3000))
    assert (
        delegator.route_text(
            f"{table}\n\nWhat was the percentage change in net sales from 2018 to 2019?"
        ).intent
        == "finance"
    )
