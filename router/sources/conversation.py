"""General: open-ended requests, writing, advice, passages to work on, small talk, assistant commands."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from router.item import Item, Role, Source
from router.sources.programming import is_about_code
from router.sources.reading import read_csv, read_json, read_json_lines
from router.sources.spanish import is_spanish
from router.sources.trivia import is_factoid

_DOLLY = "dolly15k/databricks-dolly-15k.jsonl.gz"
# Dolly's categories overlap the specialists' subjects; such rows would teach the classifier a contradiction.
_SPECIALIST_SUBJECT = re.compile(
    r"\b(stock|stocks|bond|bonds|mutual fund|invest\w*|dividend|equity|hedge|interest rate|finance|financial"
    r"|401k|accounting|revenue|inflation|bank|banking|mortgage|etf|ipo|tax|taxes|calculate|equation|math\w*|theorem"
    r"|algebra|probability|latex|github|spreadsheet"
    r"|google sheets|prove|proof|formula|algorithm|database|programming|sum of|multiply|divided by|econom\w+|fibonacci)\b",
    re.IGNORECASE,
)
_OPEN_FACT = re.compile(
    r"^(who|when|where|which|in which|how many|how much|how old|how tall)\b", re.IGNORECASE
)
# CLINC's travel and its cars are kept back whole, to measure what is out of scope (out_of_scope.py).
_CLINC_DOMAINS = (
    "kitchen_and_dining",
    "home",
    "utility",
    "work",
    "banking",
    "credit_cards",
    "small_talk",
    "meta",
)
# These are little maths, trivia or finance questions by another name.
CLINC_LEFT_OUT = frozenset({
    "calories", "nutrition_info", "exchange_rate", "calculator", "definition", "measurement_conversion",
    "spelling", "translate", "distance", "timezone", "rollover_401k", "interest_rate", "apr", "credit_score",
    "improve_credit_score", "taxes", "w2", "income",
    "food_last", "ingredients_list", "vaccines", "next_holiday", "fun_fact", "plug_type", "mpg",
    "gas_type", "what_song", "insurance", "direct_deposit",
})  # fmt: skip
# Of Dolly's open questions only those that ask for more than a fact; "What is glass made of" is trivia.
_OPEN_ENDED = re.compile(
    r"^(how (do|does|can|could|should|would|to)|why|explain|describe|tell me|give|list|write|compare|should|can you|"
    r"discuss|suggest|recommend|what (are|is) (some|the (best|difference|pros|benefit|advantage|meaning|impact|"
    r"purpose|importance|role))|what (should|would|could|can|do you)|is it (ok|better|good))\b",
    re.IGNORECASE,
)
_COMMIT = re.compile(
    r"^(add|fix|remove|update|use|make|move|rename|change|allow|support|replace|refactor)\b", re.IGNORECASE
)
_SHORT_ANSWER = 220  # characters; what can be answered so briefly is a question of fact
_CHATTERBOT_TOPICS = frozenset({
    "ai", "botprofile", "conversations", "emotion", "food", "gossip", "greetings", "health", "humor",
    "psychology", "tech_support",
})  # fmt: skip


def _is_open(instruction: str) -> bool:
    return not is_about_code(instruction) and not _SPECIALIST_SUBJECT.search(instruction)


def _dolly(categories: frozenset[str], data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / _DOLLY):
        instruction = row["instruction"].strip()
        if row["category"] not in categories or not _is_open(instruction):
            continue
        if not row["context"] and (_OPEN_FACT.match(instruction) or is_factoid(instruction, row["response"])):
            continue
        # The passage belongs to the text: without it "Who is Hermes?" would be trivia.
        yield Item(text=f"{instruction}\n\n{row['context'].strip()[:1200]}".strip())


def _dolly_open(data: Path) -> Iterator[Item]:
    """Dolly's open questions that took a paragraph to answer: explanations and opinions, not trivia."""
    for row in read_json_lines(data / _DOLLY):
        instruction = row["instruction"].strip()
        if (
            row["category"] in {"open_qa", "general_qa"}
            and len(row["response"]) > 300
            and _is_open(instruction)
            and _OPEN_ENDED.match(instruction)
        ):
            yield Item(text=instruction)


def _self_instruct(name: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        text, context = row["instruction"].strip(), row["instances"][0]["input"].strip()
        if _is_open(text + " " + context):
            yield Item(text=text, context=context)


def _roleplay(data: Path) -> Iterator[Item]:
    for row in read_json(data / "gpteacher/roleplay-simple-deduped-roleplay-instruct.json.gz"):
        if not is_about_code(row["instruction"]):
            yield Item(text=row["instruction"].strip(), context=row["input"].strip())


def _hhrlhf(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "dolly_hhrlhf/dolly_hhrlhf_train_small.jsonl"):
        text = row["prompt"].partition("### Instruction:\n")[2].partition("\n\n### Response:")[0].strip()
        is_fact = "?" in text and len(row["response"]) < _SHORT_ANSWER and not _OPEN_ENDED.match(text)
        if _is_open(text) and not _OPEN_FACT.match(text) and not is_fact:
            yield Item(text=text)


def _octopack(data: Path) -> Iterator[Item]:
    """OpenAssistant's prompts that are neither code nor Spanish, other languages included."""
    for row in read_json_lines(data / "oasst_octopack/oasstcommitpackftmanual.jsonl.gz"):
        prompt = row["prompt"].strip()
        has_code = "```" in row["completion"] or bool(re.search(r"[;{}=#<>]", prompt)) or "import " in prompt
        is_elsewhere = (
            is_spanish(prompt) or "¿" in prompt or _COMMIT.match(prompt) or _OPEN_FACT.match(prompt)
        )
        if has_code or is_elsewhere or not _is_open(prompt):
            continue
        if "?" in prompt or (len(row["completion"]) > 200 and not re.search(r"[;{}]\n", row["completion"])):
            yield Item(text=prompt)


def _clinc(data: Path) -> Iterator[Item]:
    domains = read_json(data / "clinc150/domains.json")
    wanted = {intent for domain in _CLINC_DOMAINS for intent in domains[domain]} - CLINC_LEFT_OUT
    for text, intent in read_json(data / "clinc150/data_full.json.gz")["train"]:
        if intent in wanted:
            yield Item(text=text)


def _chatterbot(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "en_chatterbot/chatterbot_english.jsonl"):
        if row["topic"] in _CHATTERBOT_TOPICS:
            yield Item(text=row["turns"][0].strip())


def _banking(data: Path) -> Iterator[Item]:
    for text in banking_texts(data, "test"):
        yield Item(text=text)


def banking_texts(data: Path, part: str) -> list[str]:
    """BANKING77's questions of `part` ("train" or "test"): general until a banking specialist is added."""
    return [row[0].strip() for row in list(read_csv(data / f"banking77/{part}.csv"))[1:]]


def _source(
    name: str, public_name: str, role: Role, load: partial[Iterator[Item]], weight: float = 1.0
) -> Source:
    return Source(name=name, public_name=public_name, intent="general", role=role, load=load, weight=weight)


_WRITING = frozenset({"creative_writing", "brainstorming", "classification"})
_PASSAGES = frozenset({"closed_qa", "information_extraction", "summarization"})

SOURCES = (
    _source("dolly", "databricks/databricks-dolly-15k", Role.TRAIN, partial(_dolly, _WRITING)),
    _source("dolly_passages", "databricks/databricks-dolly-15k", Role.TRAIN, partial(_dolly, _PASSAGES), 0.7),
    _source("dolly_open", "databricks/databricks-dolly-15k", Role.TRAIN, partial(_dolly_open)),
    _source(
        "self_instruct_seeds",
        "yizhongw/self_instruct, seed tasks",
        Role.TRAIN,
        partial(_self_instruct, "self_instruct/seed_tasks.jsonl"),
        3.0,
    ),
    _source("roleplay", "teknium/GPTeacher roleplay", Role.TRAIN, partial(_roleplay), 0.6),
    _source("hhrlhf", "mosaicml/dolly_hhrlhf", Role.TRAIN, partial(_hhrlhf)),
    _source("octopack_general", "bigcode/oasst-octopack", Role.TRAIN, partial(_octopack), 1.5),
    _source("clinc150", "clinc/clinc_oos", Role.TRAIN, partial(_clinc), 0.4),
    _source(
        "user_oriented",
        "yizhongw/self_instruct, user-oriented",
        Role.HELD_OUT,
        partial(_self_instruct, "self_instruct/user_oriented_instructions.jsonl"),
    ),
    _source("chatterbot", "gunthercox/chatterbot-corpus", Role.HELD_OUT, partial(_chatterbot)),
    _source("banking77", "PolyAI/banking77", Role.HELD_OUT, partial(_banking)),
)
