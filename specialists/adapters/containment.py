"""Is a path inside a folder that an operator allowed? No torch here."""

from collections.abc import Sequence
from pathlib import Path

from specialists.adapters.errors import AdapterError, shown


def resolve_under(path: str | Path, roots: Sequence[Path]) -> Path:
    """The folder that `path` leads to, all symlinks followed, if it lies under one of `roots` (likewise followed).

    A relative path is looked up under each root in turn. Raises AdapterError `outside_roots`, whether or not there is
    anything outside: who asks shall not learn of it; `folder_missing` when it is inside and no folder.
    """
    asked = Path(path)
    refusal = AdapterError(
        f"{shown(str(path))} is not inside one of the folders that adapters may come from",
        code="outside_roots",
    )
    if "\0" in str(path):
        raise refusal
    inside = None
    for root in roots:
        try:
            resolved_root = root.resolve(strict=True)
            resolved = (resolved_root / asked).resolve()
            is_folder = resolved.is_dir()
        except (
            OSError,
            RuntimeError,
            ValueError,
        ):  # a root that is gone, a loop of links, a name that is too long
            continue
        if resolved != resolved_root and resolved.is_relative_to(resolved_root):
            if is_folder:
                return resolved
            inside = resolved
    if inside is None:
        raise refusal
    raise AdapterError(f"{shown(str(path))} is not a folder", code="folder_missing")
