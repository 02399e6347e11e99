"""One file that is known by its content. Where it comes from does not matter, so mirrors share this type."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file name with the only content that is accepted for it."""

    path: str
    size: int
    sha256: str
