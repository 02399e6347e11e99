"""Text to token ids and back, and a conversation to the prompt the base model was trained on.

Decides how a chat template is rendered and which characters may become control tokens: only those that the
template itself writes. A user who types "<|im_end|>" gets the letters, never the token, so no message can
close its own turn and open another. Reads tokenizer.json and the Jinja template directly: importing
transformers for it would cost several seconds of every start.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

TOKENIZER_FILE = "tokenizer.json"
_QWEN_END_TOKENS = ("<|im_end|>", "<|endoftext|>")
# DeepSeek's distilled Qwens do not mark their user token as special, though it opens a turn.
_CONTROL_SPELLING = re.compile(r"<[|｜].+[|｜]>")  # noqa: RUF001
_TEMPLATE_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_PRIVATE_USE = range(0xE000, 0xF900)


class TokenizerError(ValueError):
    """A tokenizer that cannot be loaded, or a conversation its template refuses; the message says which."""


class ChatTokenizer:
    """The tokenizer of one base model with its chat template. Safe to use from several threads."""

    def __init__(
        self,
        backend: Tokenizer,
        template: Template,
        template_tokens: Mapping[str, str],
        eos_token_ids: frozenset[int],
    ) -> None:
        added = backend.get_added_tokens_decoder().values()
        control = [
            token.content for token in added if token.special or _CONTROL_SPELLING.match(token.content)
        ]
        # Special tokens are split off in `_encode`, so the backend itself must never match one.
        backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
        backend.encode_special_tokens = True
        self.backend = backend
        self.eos_token_ids = eos_token_ids
        self._template = template
        self._template_tokens = dict(template_tokens)
        ids = [(text, backend.token_to_id(text)) for text in control]
        self._control_ids = {text: token_id for text, token_id in ids if token_id is not None}
        longest_first = sorted(control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read tokenizer.json, tokenizer_config.json, generation_config.json and the chat template.

        Raises TokenizerError naming the file that is missing or cannot be read.
        """
        try:
            # The library raises a bare Exception for every problem of the file.
            backend = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        except Exception as error:
            raise TokenizerError(
                f"{folder / TOKENIZER_FILE}: cannot be read as a tokenizer ({error})"
            ) from error
        config = _read_json(folder / "tokenizer_config.json")
        source = _template_source(folder, config)
        try:
            template = _environment().from_string(source)
        except TemplateError as error:
            raise TokenizerError(f"{folder}: the chat template is not valid Jinja: {error}") from error
        template_tokens = {name: _spelling(config[name]) for name in _TEMPLATE_TOKENS if config.get(name)}
        return cls(backend, template, template_tokens, _eos_token_ids(folder, backend, template_tokens))

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Render the conversation and encode it; by default the prompt ends where the assistant begins.

        Raises TokenizerError when the template refuses the conversation.
        """
        shield = self._pick_shield(messages)
        # The template sees the real contents (templates strip them, or split them at "</think>"), with only
        # the spelling of each control token broken by the shield; `_encode` takes the shield out again.
        shielded = [self._shielded(message, shield) for message in messages] if shield else list(messages)
        try:
            text = self._template.render(
                messages=shielded,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._template_tokens,
            )
        except (TemplateError, TypeError) as error:
            raise TokenizerError(f"the chat template refuses these messages: {error}") from error
        return self._encode(text, shield)

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Encode plain text, without a template. With `allow_special` it may spell control tokens."""
        return self._encode(text, "") if allow_special else self._encode_plain(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, without special tokens; an id beyond the vocabulary is no text."""
        return self.backend.decode(list(ids), skip_special_tokens=True)

    def _encode(self, text: str, shield: str) -> list[int]:
        """Encode what the template wrote: the unbroken control tokens as such, everything else as letters."""
        ids: list[int] = []
        start = 0
        for match in self._control.finditer(text):
            ids += self._encode_plain(text[start : match.start()].replace(shield, ""))
            ids.append(self._control_ids[match.group()])
            start = match.end()
        return ids + self._encode_plain(text[start:].replace(shield, ""))

    def _encode_plain(self, text: str) -> list[int]:
        if not text:
            return []
        return list(self.backend.encode(_without_lone_surrogates(text), add_special_tokens=False).ids)

    def _pick_shield(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """A character that occurs nowhere in the messages, or "" when nothing needs shielding."""
        strings = list(_strings(messages))
        if not any(self._control.search(text) for text in strings):
            return ""
        used = set().union(*strings)
        return next(chr(code) for code in _PRIVATE_USE if chr(code) not in used)

    def _shielded(self, value: Any, shield: str) -> Any:
        if isinstance(value, str):
            return self._control.sub(lambda match: match.group()[0] + shield + match.group()[1:], value)
        if isinstance(value, Mapping):
            return {key: self._shielded(item, shield) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._shielded(item, shield) for item in value]
        return value


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [text for item in value for text in _strings(item)]
    return []


def _without_lone_surrogates(text: str) -> str:
    """JSON may carry half of a surrogate pair, which no UTF-8 can: it becomes U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment chat templates are written for: transformers' options and functions."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a missing file is an empty object."""
    try:
        content = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise TokenizerError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def _template_source(folder: Path, config: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    inline = config.get("chat_template")
    if isinstance(inline, list):  # named templates; the others are for tools or retrieval
        inline = next((item["template"] for item in inline if item.get("name") == "default"), None)
    if not isinstance(inline, str):
        raise TokenizerError(
            f"{folder}: no chat template (no chat_template.jinja, and none in tokenizer_config.json)"
        )
    return inline


def _spelling(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


def _eos_token_ids(folder: Path, backend: Tokenizer, template_tokens: Mapping[str, str]) -> frozenset[int]:
    declared = _read_json(folder / "generation_config.json").get("eos_token_id")
    declared = declared if isinstance(declared, list) else [declared]
    # A GGUF or an old config names only one of the end tokens; a chat model may write either.
    spelled = (*_QWEN_END_TOKENS, template_tokens.get("eos_token", ""))
    ids = [*declared, *(backend.token_to_id(text) for text in spelled)]
    return frozenset(token_id for token_id in ids if isinstance(token_id, int))
