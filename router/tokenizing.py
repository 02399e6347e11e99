"""Message to token ids, bounded: of a long text its head and its tail are read, whatever its length.

Torch-free. The question of a prompt is nearly always at its start or at its end; the middle of a passage, a
table or a program says less than either.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from router.errors import DelegatorError

# Characters of the head and of the tail that are tokenized at all; 8 per token leaves room to spare.
_CHARS_PER_TOKEN = 8
_HISTORY_SHARE = 4  # the message before gets at most a quarter of the tokens
_HEAD_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids with specials, and the BERT segment of each: 0 for the message before, 1 for the last one.

    A message without one before it is all segment 0.
    """

    ids: tuple[int, ...]
    segments: tuple[int, ...]


class PromptTokenizer:
    """The encoder's own WordPiece tokenizer, bounded to `max_tokens` including [CLS] and [SEP].

    Thread-safe.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        if max_tokens < 8:
            raise ValueError(f"max_tokens is {max_tokens}; at least 8 are needed")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # A user's "[SEP]" is text, not a separator.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        if cls is None or sep is None:
            raise DelegatorError("the encoder's tokenizer has no [CLS] or [SEP]: not a BERT tokenizer")
        self._cls: int = cls
        self._sep: int = sep

    @classmethod
    def from_folder(cls, folder: Path, max_tokens: int) -> "PromptTokenizer":
        """Raises DelegatorError naming tokenizer.json when it is missing or malformed."""
        path = folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DelegatorError(f"cannot read the encoder's {path}: {error.strerror}") from error
        except Exception as error:  # tokenizers raises bare Exception on malformed content
            raise DelegatorError(f"{path} is not a tokenizer: {error}") from error
        return cls(tokenizer, max_tokens)

    def encode(self, text: str, history: str = "") -> Encoded:
        """Ids of `[CLS] text [SEP]`, or of `[CLS] history [SEP] text [SEP]`; never more than `max_tokens`."""
        if not history:
            body = self._bounded(text, self.max_tokens - 2)
            return Encoded((self._cls, *body, self._sep), (0,) * (len(body) + 2))
        before = self._bounded(history, self.max_tokens // _HISTORY_SHARE)
        body = self._bounded(text, self.max_tokens - 3 - len(before))
        ids = (self._cls, *before, self._sep, *body, self._sep)
        return Encoded(ids, (0,) * (len(before) + 2) + (1,) * (len(body) + 1))

    def _bounded(self, text: str, limit: int) -> list[int]:
        limit_chars = limit * _CHARS_PER_TOKEN
        if len(text) > 2 * limit_chars:
            text = f"{text[:limit_chars]} {text[-limit_chars:]}"
        # Lone surrogates (from JSON escapes) cannot cross into the tokenizer.
        ids: list[int] = self._tokenizer.encode(
            text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=False
        ).ids
        if len(ids) <= limit:
            return ids
        head = int(limit * _HEAD_SHARE)
        return ids[:head] + ids[len(ids) - (limit - head) :]


def read_json_object(path: Path) -> dict[str, object]:
    """A JSON object from a file. Raises DelegatorError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DelegatorError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DelegatorError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DelegatorError(f"{path} holds a {type(content).__name__}, not an object")
    return content
