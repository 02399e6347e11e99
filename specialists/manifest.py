"""What a specialist says of itself, in `manifest.json` beside its PEFT files. Read without torch.

A folder without a manifest is still a valid adapter: its name is the folder's and it declares no intent,
so it is reachable by name and never by routing.
"""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1024 * 1024
NAME_PATTERN = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")

_LONGEST_MESSAGE = 500


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file and the field, `fields` are those at fault."""

    def __init__(self, message: str, fields: tuple[str, ...]) -> None:
        super().__init__(message)
        self.fields = fields


class SpecialistManifest(BaseModel):
    """The declaration of one specialist. Unknown keys are errors, so that a misspelt one is not silent."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=NAME_PATTERN.pattern)
    description: str = ""
    intent: str | None = None
    examples: tuple[str, ...] = ()
    base_sha256: str | None = None  # identity of the base weights it was trained on
    recipe: str | None = None  # path of the recipe file in the repository
    seed: int | None = None
    commit: str | None = None
    data_sha256: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)


def read_manifest(folder: Path) -> SpecialistManifest:
    """Read `folder/manifest.json`, or make the bare manifest of a folder that has none.

    Raises ManifestError when the file is not valid JSON of this form or the name is not usable.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return parse_manifest(path, None)
    if not path.is_file():  # a pipe, say, would be waited for
        raise ManifestError(f"{path} is no file", ("file",))
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{path} has more than {MAX_MANIFEST_BYTES} bytes", ("file",))
    return parse_manifest(path, path.read_bytes())


def parse_manifest(path: Path, content: bytes | None) -> SpecialistManifest:
    """The manifest that `path` holds, or the bare one when there is none. Raises ManifestError."""
    try:
        if content is None:
            return SpecialistManifest(name=path.parent.name)
        return SpecialistManifest.model_validate_json(content)
    except ValidationError as error:
        found = {".".join(map(str, item["loc"])) or "file": item["msg"] for item in error.errors()}
        problems = "; ".join(f"{field}: {problem}" for field, problem in found.items())
        raise ManifestError(f"{path}: {problems[:_LONGEST_MESSAGE]}", tuple(found)) from error
