"""Programming: instructions, stubs to complete, code to explain or mend."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from router.item import Item, Role, Source
from router.sources.reading import read_json, read_json_lines
from router.sources.spanish import is_spanish

MBPP_TRAIN = "mbpp/train_601_974.jsonl"
_CODE_WORDS = re.compile(
    r"\b(python|javascript|typescript|java|c\+\+|c#|rust|golang|sql|html|css|bash|linux|git|code|function|script|api"
    r"|program|django|flask|react|pandas|numpy|regex|array|class|compile|software|library|framework|linux|c)\b",
    re.IGNORECASE,
)
# OpenAssistant asks in many languages; those words are in nearly every English question.
_ENGLISH = re.compile(r"\b(the|to|is|with|of|for|can|how|write)\b", re.IGNORECASE)
_STDLIB_MODULES = (
    "argparse", "ast", "base64", "bisect", "calendar", "cmd", "codecs", "collections/__init__",
    "colorsys", "configparser", "copy", "csv", "datetime", "decimal", "difflib", "dis", "email/utils",
    "fileinput", "fnmatch", "fractions", "ftplib", "functools", "getopt", "glob", "gzip", "heapq",
    "hmac", "html/__init__", "imaplib", "inspect", "ipaddress", "json/encoder", "keyword", "linecache",
    "locale", "mailbox", "mimetypes", "ntpath", "operator", "os", "pathlib", "pickle", "platform",
    "pprint", "queue", "random", "re/__init__", "sched", "shelve", "shlex", "shutil", "smtplib",
    "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "tokenize",
    "traceback", "types", "urllib/parse", "uuid", "wave", "weakref", "zipfile",
)  # fmt: skip


def is_about_code(text: str) -> bool:
    """Whether a text names a programming language or a thing only programs have."""
    return bool(_CODE_WORDS.search(text)) or "```" in text


def _codegen(data: Path) -> Iterator[Item]:
    for row in read_json(data / "gpteacher/codegen-instruct.json.gz"):
        yield Item(text=row["instruction"].strip(), context=row["input"].strip())


def _mbpp_text(name: str, data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / name):
        yield Item(text=row["text"].strip())


def _mbpp_tested(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / MBPP_TRAIN):
        tests = "\n".join(row["test_list"])
        yield Item(text=f"{row['text'].strip()} Your code should pass these tests:", context=tests)


def _stub(row: dict[str, Any]) -> str | None:
    signature = re.search(r"^def .*:\s*$", row["code"].replace("\r", ""), re.MULTILINE)
    if signature is None:
        return None
    examples = [t.removeprefix("assert ").split(" == ") for t in row["test_list"][:2]]
    shown = "".join(f"    >>> {e[0]}\n    {e[1]}\n" for e in examples if len(e) == 2)
    return f'{signature[0].rstrip()}\n    """{row["text"].strip()}\n{shown}    """\n'


def _mbpp_stubs(data: Path) -> Iterator[Item]:
    """MBPP tasks as a function to complete from its signature, docstring and examples."""
    for row in read_json_lines(data / MBPP_TRAIN):
        if (stub := _stub(row)) is not None:
            yield Item(text=stub, verbatim=True)


_ABOUT_CODE = (
    "What does this code do?",
    "Explain the following function line by line.",
    "There is a bug somewhere in here, can you find it?",
    "Rewrite this to be faster.",
    "Write unit tests for this function.",
    "Add type hints and a docstring.",
    "What is the time complexity of this?",
    "Convert this to JavaScript.",
    "Refactor this code so that it is easier to read.",
    "Why do I get an error when I run this?",
    "What will this print?",
    "Complete the code.",
    "Review my solution.",
)


def _mbpp_code(data: Path) -> Iterator[Item]:
    for number, row in enumerate(read_json_lines(data / MBPP_TRAIN)):
        code = row["code"].replace("\r", "").replace("\t", "    ").strip()
        question = _ABOUT_CODE[number % len(_ABOUT_CODE)]
        shown = f"```python\n{code}\n```" if number % 2 else code
        yield Item(text=question, context=shown)


def _functions(path: Path) -> Iterator[str]:
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and not node.name.startswith("_"):
            first = node.body[0]
            yield "\n".join(source.split("\n")[node.lineno - 1 : first.end_lineno])


def _stdlib(data: Path) -> Iterator[Item]:
    """Signatures with docstrings from the standard library of the running Python; `data` is not read."""
    del data
    library = Path(sysconfig.get_path("stdlib"))
    for module in _STDLIB_MODULES:
        for stub in _functions(library / f"{module}.py"):
            if 40 < len(stub) < 1200:
                yield Item(text=stub + "\n", verbatim=True)


def _commits(data: Path) -> Iterator[Item]:
    """Commit messages followed by the file they change.

    OpenAssistant's questions where they are about code.
    """
    for row in read_json_lines(data / "oasst_octopack/oasstcommitpackftmanual.jsonl.gz"):
        prompt = row["prompt"].strip()
        if not _ENGLISH.search(prompt):
            continue
        head, _, rest = prompt.partition("\n")
        is_commit = bool(re.search(r"[;{}=#()]", rest))
        if is_commit or (is_about_code(prompt) and "```" in row["completion"]):
            yield Item(text=head, context=rest.strip())


def _assistant_code(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "oasst_octopack/oasstcommitpackft.jsonl"):
        prompt = row["prompt"].strip()
        is_english = _ENGLISH.search(prompt) and not is_spanish(prompt) and "¿" not in prompt
        if is_english and is_about_code(prompt) and "```" in row["completion"]:
            yield Item(text=prompt)


def _chatterbot_coding(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "en_chatterbot/chatterbot_english.jsonl"):
        if row["topic"] == "coding":
            yield Item(text=row["turns"][0])


def _humaneval(data: Path) -> Iterator[Item]:
    for row in read_json_lines(data / "humaneval/HumanEval.jsonl.gz"):
        yield Item(text=row["prompt"].strip("\n"), verbatim=True)


def _source(
    name: str, public_name: str, role: Role, load: partial[Iterator[Item]], weight: float = 1.0
) -> Source:
    return Source(name=name, public_name=public_name, intent="code", role=role, load=load, weight=weight)


SOURCES = (
    _source("codegen", "teknium/GPTeacher-CodeGen", Role.TRAIN, partial(_codegen)),
    _source("mbpp", "google-research-datasets/mbpp", Role.TRAIN, partial(_mbpp_text, MBPP_TRAIN)),
    _source(
        "mbpp_tested", "google-research-datasets/mbpp, with its tests", Role.TRAIN, partial(_mbpp_tested)
    ),
    _source("mbpp_stubs", "google-research-datasets/mbpp, as stubs", Role.TRAIN, partial(_mbpp_stubs)),
    _source(
        "mbpp_code", "google-research-datasets/mbpp, questions on its code", Role.TRAIN, partial(_mbpp_code)
    ),
    _source("stdlib", "the standard library of Python 3.11, as stubs", Role.TRAIN, partial(_stdlib)),
    _source("octopack_manual", "bigcode/oasst-octopack and CommitPackFT", Role.TRAIN, partial(_commits)),
    _source("octopack", "bigcode/oasst-octopack", Role.HELD_OUT, partial(_assistant_code)),
    _source("chatterbot_coding", "gunthercox/chatterbot-corpus", Role.HELD_OUT, partial(_chatterbot_coding)),
    _source("humaneval", "openai/openai_humaneval", Role.EVAL, partial(_humaneval)),
    _source(
        "mbpp_test",
        "google-research-datasets/mbpp",
        Role.EVAL,
        partial(_mbpp_text, "mbpp/test_even_ids.jsonl"),
    ),
)
