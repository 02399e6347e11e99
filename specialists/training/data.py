"""From rows of text to token ids with the loss on the answer only.

Renders through the serving tokenizer, so that training sees exactly the prompts that serving will send.
Several answers to one prompt stay together as one `PromptGroup`: packing runs the prompt once for all of
them.
"""

import gzip
import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialists.tokenizer import ChatTokenizer, TokenizerError
from specialists.training.sections import Source

Message = Mapping[str, str]


class DataError(ValueError):
    """Training data that cannot be used; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One answer to one problem. `fields` fill the templates; `messages`, when present, are used as they are."""

    problem: str  # rows of one problem never fall on both sides of the validation split
    completion: str
    fields: Mapping[str, str]
    messages: tuple[Message, ...]
    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """One rendered prompt and its answers, each ending with the model's end-of-turn token."""

    prompt_ids: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed: the prompt once."""
        return len(self.prompt_ids) + sum(map(len, self.answers))

    @property
    def num_unshared_tokens(self) -> int:
        """Tokens there would be with the prompt repeated for each answer."""
        return sum(len(self.prompt_ids) + len(answer) for answer in self.answers)


def find_file(name: str, folders: Sequence[Path]) -> Path:
    """The first folder's file of that name. Raises DataError saying where it was looked for."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"no data file {name!r} in {', '.join(map(str, folders))}")


def read_source(source: Source, folders: Sequence[Path], seed: int) -> list[Row]:
    """The rows of one source, at most as many as it allows. Raises DataError naming file and line."""
    assert source.path is not None, "a source without a file is a task's"
    path = find_file(source.path, folders)
    rows = limit_per_problem(_parse_rows(path, source), source.max_per_problem)
    if not rows:
        raise DataError(f"{path} holds no rows")
    if source.max_rows is not None and len(rows) > source.max_rows:
        rows = random.Random(seed).sample(rows, source.max_rows)
    return rows


def limit_per_problem(rows: Iterable[Row], most: int | None) -> list[Row]:
    """The first `most` rows of each problem, all without a limit."""
    per_problem: Counter[str] = Counter()
    kept = []
    for row in rows:
        per_problem[row.problem] += 1
        if most is None or per_problem[row.problem] <= most:
            kept.append(row)
    return kept


def _parse_rows(path: Path, source: Source) -> Iterator[Row]:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_row(f"{path}, line {number}", line, source)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _parse_row(where: str, line: str, source: Source) -> Row:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected an object, got {type(content).__name__}")
    if "messages" in content:
        return _conversation_row(where, content["messages"])
    fields = {key: value for key, value in content.items() if isinstance(value, str)}
    completion = fields.pop("completion", "").strip()
    if not completion:
        raise DataError(f"{where}: neither messages nor a completion with text")
    for template in source.templates:
        _fill(template, fields, where)
    problem = fields.get("question") or _fill(source.templates[0], fields, where)
    return Row(problem, completion, fields, (), source.templates)


def _conversation_row(where: str, messages: Any) -> Row:
    usable = isinstance(messages, list) and len(messages) >= 2 and all(map(_is_message, messages))
    if not usable or messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        raise DataError(f"{where}: messages must be roles with text, the last one the assistant's answer")
    prompt = tuple(messages[:-1])
    return Row(json.dumps(prompt), messages[-1]["content"].strip(), {}, prompt, ())


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("role", "content"))


def _fill(template: str, fields: Mapping[str, str], where: str = "row") -> str:
    try:
        return template.format_map(fields)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{where}: the template {template!r} needs the field {error}") from error


def split_rows(rows: Sequence[Row], share: float, max_rows: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Training and validation rows, by problem: about `share` of the problems, at most `max_rows` rows."""
    train: list[Row] = []
    validation: list[Row] = []
    for row in rows:
        digest = hashlib.sha256(f"{seed}/{row.problem}".encode()).digest()
        is_held_out = int.from_bytes(digest[:4], "big") < share * 2**32
        (validation if is_held_out else train).append(row)
    return train, validation[:max_rows]


def render_groups(
    rows: Sequence[Row], tokenizer: ChatTokenizer, epoch: int, seed: int, max_seq_len: int
) -> list[PromptGroup]:
    """Tokenize one epoch: a template drawn for each problem, its answers grouped under the rendered prompt.

    Answers that do not fit `max_seq_len` tokens with their prompt are dropped whole: a cut answer teaches
    not to end.
    """
    messages_of: dict[str, tuple[Message, ...]] = {}
    completions: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        messages = row.messages or _draw_messages(row, epoch, seed)
        key = json.dumps(messages)
        messages_of[key] = messages
        completions[key].append(row.completion)
    groups = (_render(tokenizer, messages_of[key], texts) for key, texts in completions.items())
    fitting = (_without_long_answers(group, max_seq_len) for group in groups)
    return [group for group in fitting if group.answers]


def _draw_messages(row: Row, epoch: int, seed: int) -> tuple[Message, ...]:
    digest = hashlib.sha256(f"{seed}/{epoch}/{row.problem}".encode()).digest()
    template = row.templates[int.from_bytes(digest[:4], "big") % len(row.templates)]
    return ({"role": "user", "content": _fill(template, row.fields)},)


def _render(tokenizer: ChatTokenizer, messages: Sequence[Message], texts: Sequence[str]) -> PromptGroup:
    prompt_ids = tokenizer.encode_chat(messages)
    return PromptGroup(
        tuple(prompt_ids), tuple(_render_answer(tokenizer, messages, prompt_ids, text) for text in texts)
    )


def _render_answer(
    tokenizer: ChatTokenizer, messages: Sequence[Message], prompt_ids: Sequence[int], text: str
) -> tuple[int, ...]:
    """The answer's tokens as the template writes them, up to and including the end-of-turn token."""
    turn = [*messages, {"role": "assistant", "content": text}]
    ids = tokenizer.encode_chat(turn, add_generation_prompt=False)
    answer = ids[len(prompt_ids) :]
    end = next((place for place, token in enumerate(answer) if token in tokenizer.eos_token_ids), None)
    if ids[: len(prompt_ids)] != list(prompt_ids) or end is None:
        raise TokenizerError("the chat template does not write an answer as prompt, answer, end of turn")
    return tuple(answer[: end + 1])


def _without_long_answers(group: PromptGroup, max_seq_len: int) -> PromptGroup:
    room = max_seq_len - len(group.prompt_ids)
    return PromptGroup(group.prompt_ids, tuple(answer for answer in group.answers if len(answer) <= room))
