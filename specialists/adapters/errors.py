"""Why an adapter is refused: a code for programs and a sentence for people. No torch here."""

from typing import Literal, TypeAlias, get_args

ErrorCode: TypeAlias = Literal[
    # where it comes from
    "outside_roots",
    "folder_missing",
    "file_missing",
    "file_not_allowed",
    "not_safetensors",
    "not_regular_file",
    "unreadable",
    # what it is called
    "manifest_invalid",
    "name_invalid",
    "name_reserved",
    "name_taken",
    "generation_mismatch",
    # what it holds
    "config_invalid",
    "header_invalid",
    "unsupported_feature",
    "target_unknown",
    "tensor_unknown",
    "tensor_missing",
    "shape_mismatch",
    "dtype_unsupported",
    "non_finite",
    "rank_too_large",
    "alpha_invalid",
    "base_mismatch",
    "no_effect",
    # what there is room for
    "too_large",
    "too_many",
    "no_room",
    # what became of it
    "content_changed",
    "trial_failed",
]
ERROR_CODES: tuple[ErrorCode, ...] = get_args(ErrorCode)

_LONGEST_SHOWN = 100


class AdapterError(ValueError):
    """An adapter that cannot be used. The message names the folder or file and says what was found and expected;
    `code` stays the same when the sentence gets better.
    """

    def __init__(self, message: str, *, code: ErrorCode) -> None:
        super().__init__(message)
        self.code: ErrorCode = code


def shown(value: object) -> str:
    """A value out of somebody's file as a message may repeat it: escaped, so that it fits any encoding, and short."""
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
