"""A specialist's intent is learned with it and forgotten with it, by the published delegator over the admin API."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from router.delegator import Delegator
from server.intents import LearnedIntents
from server.lifecycle import Lifecycle
from server.loading import load_services
from server.settings import Settings
from tests.server.tiny import TINY_LIMITS, running, write_adapter

EXAMPLES = [
    "Why was my card payment declined at the shop?",
    "I want to block my lost debit card",
    "How long does a transfer to another bank account take?",
    "There is a withdrawal on my account that I did not make",
    "How do I change the PIN of my card?",
    "My top-up has not arrived on my account yet",
    "Why was I charged a fee for using the cash machine?",
    "Can I order a second card for my wife?",
    "I need to verify my identity to open the account",
    "My card has not been delivered yet, where is it?",
    "The exchange rate you applied to my purchase is wrong",
    "How can I close my account with you?",
]
QUESTION = "The machine kept my card, what should I do to get a new one?"
KEY = "an-admin-key-for-tests"

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("intents")


@pytest.fixture(scope="module")
def admin(root: Path, tiny_qwen2: Path, encoder_folder: Path, polymath_home: Path) -> Iterator[httpx.Client]:
    catalog = root / "catalog"
    catalog.mkdir()
    write_adapter(root / "roots" / "bank", tiny_qwen2, intent=None, seed=5)
    settings = Settings(
        home=polymath_home,
        base=str(tiny_qwen2),
        catalog=catalog,
        state_folder=root / "state",
        adapter_roots=(root / "roots",),
        admin_key=KEY,
        **TINY_LIMITS,
    )
    with (
        running(Lifecycle(settings, load_services)) as url,
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as client,
    ):
        yield client


def routed(admin: httpx.Client, text: str) -> tuple[str, str]:
    answer = admin.post("/v1/route", json={"messages": [{"role": "user", "content": text}]}).json()
    return answer["specialist"], answer["intent"]


def load(admin: httpx.Client, root: Path, **fields: object) -> httpx.Response:
    return admin.post(
        "/admin/adapters", json={"name": "bank", "path": str(root / "roots" / "bank"), **fields}
    )


def test_a_specialist_with_examples_is_routable_at_once_and_gone_with_it(admin: httpx.Client, root: Path):
    assert routed(admin, QUESTION)[1] != "banking"
    loaded = load(admin, root, intent="banking", description="bank accounts and cards", examples=EXAMPLES)
    assert loaded.status_code == 201, loaded.text
    assert loaded.json()["routing"] == "routed"
    assert routed(admin, QUESTION) == ("bank", "banking")
    assert routed(admin, "What is 17 times 23?")[1] == "math", "the others are still themselves"
    assert admin.delete("/admin/adapters/bank").status_code == 200
    assert routed(admin, QUESTION)[1] != "banking"


def test_without_examples_it_is_reachable_by_name(admin: httpx.Client, root: Path):
    loaded = load(admin, root, intent="banking")
    assert (loaded.status_code, loaded.json()["routing"]) == (201, "by_name_only")
    assert admin.delete("/admin/adapters/bank").status_code == 200


def test_other_examples_of_a_learned_intent_replace_the_first(encoder_folder: Path):
    delegator = Delegator.from_folder(encoder_folder)
    intents = LearnedIntents(delegator)
    assert intents.add("banking", "", EXAMPLES) is None
    before = delegator.route_text(QUESTION)
    assert before.intent == "banking"
    plants = [
        f"How often do I water {plant} on the balcony?"
        for plant in ("basil", "roses", "a fern", "mint", "ivy")
    ]
    assert intents.add("banking", "", plants) is None
    assert delegator.route_text("How much water does my cactus need?").intent == "banking"
    assert delegator.scores(QUESTION)["banking"] < before.scores["banking"]
    intents.remove("banking")
    assert not intents.knows("banking")


def test_trained_intents_are_not_learned_again(encoder_folder: Path):
    intents = LearnedIntents(Delegator.from_folder(encoder_folder))
    assert intents.add("math", "", EXAMPLES) is None
    assert "expected" in (intents.add("banking", "", ["one"]) or "expected") or intents.add(
        "banking", "", ["one"]
    )
