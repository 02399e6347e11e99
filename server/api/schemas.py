"""What requests may hold. A field that is accepted is honoured; any other value is refused by name.

Fields of OpenAI's that this server does not implement are declared too, with the values under which they
change nothing: clients send those defaults. An answer that ignored any other value would be a wrong answer.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from server.dispatch import AUTO

MAX_CHOICES = 8
MAX_STOP_STRINGS = 4
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

# Field -> values that change nothing; null always does.
_HARMLESS_IN_MESSAGE: Mapping[str, tuple[Any, ...]] = {
    "name": (),
    "refusal": (),
    "tool_calls": ([],),
    "function_call": (),
    "audio": (),
    "annotations": ([],),
}
_HARMLESS_IN_STREAM_OPTIONS: Mapping[str, tuple[Any, ...]] = {"include_obfuscation": (False,)}
_HARMLESS_IN_CHAT: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (True, False),  # says how to call tools, of which there are none
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
}


def _check_harmless(name: str, value: Any, accepted: tuple[Any, ...]) -> Any:
    # The type too: in Python 0 == False, on the wire they are not the same.
    if value is None or any(value == other and type(value) is type(other) for other in accepted):
        return value
    hint = f"; it may only be {' or '.join(map(repr, accepted))}" if accepted else ""
    raise PydanticCustomError(
        "unsupported_parameter", "{name} is not supported by this server{hint}", {"name": name, "hint": hint}
    )


def _check_text(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("invalid_text", "holds a NUL character, which is no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = "holds half of a surrogate pair at character {start}, which is no text"
        raise PydanticCustomError("invalid_text", message, {"start": error.start}) from None
    return text


def _text_or_list(value: Any) -> str | None:
    """Which form such a field has. The "@" marks names that are no part of a field's path."""
    return "@text" if isinstance(value, str) else "@list" if isinstance(value, list) else None


_TEXT_OR_LIST = Discriminator(
    _text_or_list, custom_error_type="wrong_type", custom_error_message="Input should be a string or a list"
)
Text: TypeAlias = Annotated[str, AfterValidator(_check_text)]
StopString: TypeAlias = Annotated[Text, Field(min_length=1)]
Stop: TypeAlias = Annotated[
    Annotated[StopString, Tag("@text")]
    | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS), Tag("@list")],
    _TEXT_OR_LIST,
]


class TextPart(BaseModel):
    """One part of a message's content."""

    model_config = _STRICT

    type: Literal["text"]
    text: Text


Content: TypeAlias = Annotated[
    Annotated[Text, Tag("@text")] | Annotated[list[TextPart], Field(min_length=1), Tag("@list")],
    _TEXT_OR_LIST,
]


class ChatMessage(BaseModel):
    """One turn of a conversation. `developer` is OpenAI's newer word for `system`."""

    model_config = _STRICT

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    # An assistant's turn comes back as the client received it, with what was empty in it.
    name: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    annotations: Any = None

    @field_validator(*_HARMLESS_IN_MESSAGE)
    @classmethod
    def _refuse_unsupported(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        return _check_harmless(name, value, _HARMLESS_IN_MESSAGE[name])

    def to_prompt(self) -> dict[str, str]:
        """The turn as the chat template and the delegator read it."""
        content = self.content
        text = content if isinstance(content, str) else "\n".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


Messages: TypeAlias = Annotated[list[ChatMessage], Field(min_length=1)]


class StreamOptions(BaseModel):
    """What a stream carries besides the text."""

    model_config = _STRICT

    include_usage: bool | None = None
    include_obfuscation: Any = None

    @field_validator(*_HARMLESS_IN_STREAM_OPTIONS)
    @classmethod
    def _refuse_unsupported(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        return _check_harmless(name, value, _HARMLESS_IN_STREAM_OPTIONS[name])


SessionName: TypeAlias = Annotated[Text, Field(min_length=1, max_length=256)]


class PolymathOptions(BaseModel):
    """This server's own field: the specialists to choose from, the conversation's name, and whether to explain."""

    model_config = _STRICT

    candidates: Annotated[list[Text], Field(min_length=1, max_length=256)] | None = None
    session: SessionName | None = None
    explain: bool = False


class RouteRequest(BaseModel):
    """Messages whose specialist is asked for, and nothing generated."""

    model_config = _STRICT

    messages: Messages
    model: Text = AUTO
    user: str | None = None
    polymath: PolymathOptions | None = None


class ChatCompletionRequest(BaseModel):
    """OpenAI's chat completion request, with the extensions `top_k`, `ignore_eos` and `polymath`."""

    model_config = _STRICT

    model: Text
    messages: Messages
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, description="0 and -1 keep every token")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | None = None
    ignore_eos: bool | None = None
    polymath: PolymathOptions | None = None
    user: str | None = None  # carries a conversation's specialist on, see docs/router.md
    # For the operator's own bookkeeping; no part of the answer depends on them.
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    audio: Any = None
    modalities: Any = None
    prediction: Any = None
    web_search_options: Any = None
    store: Any = None
    service_tier: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None

    @field_validator(*_HARMLESS_IN_CHAT)
    @classmethod
    def _refuse_unsupported(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        return _check_harmless(name, value, _HARMLESS_IN_CHAT[name])

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise PydanticCustomError(
                "conflict",
                "max_tokens and max_completion_tokens mean the same; give one of them",
                {"param": "max_completion_tokens"},
            )
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError(
                "conflict", "stream_options is only allowed when stream is true", {"param": "stream_options"}
            )
        return self

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def length_field(self) -> str:
        """The field by which this request limits its answer."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
