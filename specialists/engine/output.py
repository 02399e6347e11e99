"""What the engine tells its caller about one request. No torch here."""

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a request ended; each accepted request ends in exactly one of these."""

    STOP = "stop"  # an end token of the model, or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    ABORTED = "abort"  # ended from outside, as when its adapter was unloaded by force; `RequestOutput.error` says why
    FAILED = "error"  # the engine could not go on with it; `RequestOutput.error` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutput:
    """What is new in one request since the previous output; the last one carries a finish reason.

    `text` and `token_ids` are increments: joining all outputs of a request gives the whole answer. The text
    never ends inside a character, and text that may be the beginning of a stop string is held back.
    """

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    num_prompt_tokens: int
    num_completion_tokens: int
    num_cached_tokens: int = 0
    error: str | None = None

    @property
    def is_finished(self) -> bool:
        return self.finish_reason is not None
