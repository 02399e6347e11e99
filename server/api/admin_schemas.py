"""What the admin endpoints take and answer, and vLLM's two bodies. A field that is not known is refused."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.schemas import Text

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
MAX_EXAMPLES = 1000

Name: TypeAlias = Annotated[Text, Field(min_length=1, max_length=64, examples=["sql"])]
Generation: TypeAlias = Annotated[int, Field(ge=0)]


class LoadAdapterRequest(BaseModel):
    """A specialist to load. Without `path` (and without uploaded files) it is the one that the configured folders hold
    under this name. What is not given is as the folder's `manifest.json` says, or, of a replaced one, as it was.
    """

    model_config = _STRICT

    name: Name
    path: Annotated[Text, Field(min_length=1)] | None = Field(
        None, description="folder below one of POLYMATH_ADAPTER_ROOTS", examples=["/srv/adapters/sql"]
    )
    intent: Annotated[Text, Field(min_length=1, max_length=64)] | None = None
    description: Annotated[Text, Field(max_length=2000)] | None = None
    examples: Annotated[list[Text], Field(max_length=MAX_EXAMPLES)] | None = Field(
        None, description="prompts of this intent"
    )
    pinned: bool | None = Field(None, description="keep it in memory")
    replace: bool = Field(False, description="take the place of the specialist that has the name")
    expected_generation: Generation | None = Field(
        None, description="what the name must stand for now, 0 for nothing; anything else is a 409"
    )
    allow_base_mismatch: bool = Field(False, description="even if it was trained on another base's weights")


class UpdateAdapterRequest(BaseModel):
    """What shall change; what is not given stays."""

    model_config = _STRICT

    pinned: bool | None = None
    routable: bool | None = None
    expected_generation: Generation | None = None

    @model_validator(mode="after")
    def _check_something(self) -> "UpdateAdapterRequest":
        if self.pinned is None and self.routable is None:
            raise PydanticCustomError("nothing", "gives neither pinned nor routable")
        return self


class VllmLoadRequest(BaseModel):
    """vLLM's body. Fields it may gain are ignored, as vLLM ignores them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    is_3d_lora_weight: bool = False
    base_model_name: Any = None


class VllmUnloadRequest(BaseModel):
    """vLLM's body; `lora_int_id` has no meaning here, nor has it there."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    lora_name: str
    lora_int_id: int | None = None


class Draining(BaseModel):
    """A generation that lost its name and still has requests."""

    name: str
    generation: int
    in_flight: int


class AdapterBody(BaseModel):
    """One specialist. `status` is where its weights are; `refused` is one that should be here and could not be loaded,
    of which only `name`, `error` and what was asked for are known.
    """

    object: Literal["adapter"] = "adapter"
    name: str = Field(examples=["sql"])
    status: Literal["registered", "resident", "active", "refused"]
    routing: Literal["routed", "shadowed", "by_name_only", "off"] = Field(
        description="routed: `auto` reaches it; shadowed: another specialist of its intent comes first; "
        "by_name_only: the delegator does not know its intent; off: not routable"
    )
    generation: int | None
    sha256: str | None
    rank: int | None
    targets: list[str]
    bytes: int | None = Field(description="in memory, when it is there")
    source: Literal["catalog", "path", "upload"]
    intent: str | None
    description: str
    num_examples: int
    pinned: bool
    routable: bool
    in_flight: int
    last_used: float | None = Field(description="seconds since the epoch")
    draining: list[Draining]
    error: str | None = None


class LoadedBody(AdapterBody):
    """The answer to a load."""

    milliseconds: float = Field(
        description="from the request's last byte to the specialist that can be asked"
    )


class AdapterListBody(BaseModel):
    """All specialists by name, and what they take."""

    object: Literal["list"] = "list"
    data: list[AdapterBody]
    draining: list[Draining] = Field(description="of all names, also of those that are gone")
    resident_bytes: int
    max_resident_bytes: int
    max_resident: int


class UnloadedBody(BaseModel):
    """The answer to an unload: `unloaded`, or `draining` when the deadline came before the last answer's end."""

    object: Literal["adapter.unloaded"] = "adapter.unloaded"
    name: str
    generation: int | None
    status: Literal["unloaded", "draining"]
    in_flight: int
    milliseconds: float


class ErrorDetail(BaseModel):
    """OpenAI's error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """OpenAI's error body."""

    error: ErrorDetail
