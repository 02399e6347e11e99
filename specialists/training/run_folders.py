"""Where a training run reads and writes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# From a model's name in a recipe ("teacher", a folder, a hub id) to its folder; raises BaseModelError.
FindModel = Callable[[str], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """`base` is the imported base model; `out` must not exist yet. `kernels`: where compiled kernels are kept (the engine's
    `kernel_folder`); None compiles them for this process alone.
    """

    base: Path
    data: tuple[Path, ...]
    out: Path
    kernels: Path | None = None

    @property
    def run(self) -> Path:
        """Checkpoint, metrics and caches, while it runs and afterwards."""
        return self.out.with_name(f"{self.out.name}.run")
