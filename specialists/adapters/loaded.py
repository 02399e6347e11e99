"""One loaded adapter, and what is told about it."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from specialists.adapters.lora import AdapterInUse, AdapterWeights
from specialists.manifest import SpecialistManifest


class AdapterState(StrEnum):
    """How near an adapter is to a step of the model."""

    REGISTERED = "registered"  # on disk, validated; comes into memory with its next request
    RESIDENT = "resident"  # in memory, as the engine wants it
    ACTIVE = "active"  # in a slot of the engine


class NotResidentError(RuntimeError):
    """An adapter's weights were wanted, and it was not brought into memory first."""


@dataclass(slots=True)
class AdapterMemory:
    """The weights of a generation while it is resident. Only the registry changes it."""

    weights: AdapterWeights | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAdapter:
    """One generation of one adapter. Never changes, but for whether it is in memory; a replaced adapter is another
    generation.

    `sha256` is the identity of its content (`adapter_config.json` and the weights), `num_bytes` what it takes in memory as
    the engine keeps it.
    """

    name: str
    generation: int
    manifest: SpecialistManifest
    folder: Path
    sha256: str
    rank: int
    targets: tuple[str, ...]
    num_bytes: int
    memory: AdapterMemory = field(repr=False)

    @property
    def is_resident(self) -> bool:
        return self.memory.weights is not None

    @property
    def weights(self) -> AdapterWeights:
        """Raises NotResidentError; `AdapterRegistry.ensure_resident` comes first."""
        weights = self.memory.weights
        if weights is None:
            raise NotResidentError(f"adapter {self.name!r} (generation {self.generation}) is not in memory")
        return weights

    def in_use(self) -> AdapterInUse:
        """What a request takes along: it keeps the weights even if they are evicted. Raises NotResidentError."""
        return AdapterInUse(self.generation, self.weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterStatus:
    """What is told about one generation. `last_used` is in seconds since the epoch, None before the first request.

    A draining generation is no longer found under its name (it was unloaded or replaced) and goes with its last request.
    """

    name: str
    generation: int
    sha256: str
    rank: int
    targets: tuple[str, ...]
    num_bytes: int
    manifest: SpecialistManifest
    folder: Path
    state: AdapterState
    pinned: bool
    routable: bool
    draining: bool
    in_flight: int
    last_used: float | None

    @classmethod
    def of(
        cls,
        adapter: LoadedAdapter,
        *,
        is_active: bool,
        pinned: bool,
        routable: bool,
        draining: bool,
        in_flight: int,
        last_used: float | None,
    ) -> Self:
        """The status of an adapter, given what only its registry and the engine know."""
        in_memory = AdapterState.ACTIVE if is_active else AdapterState.RESIDENT
        return cls(
            name=adapter.name,
            generation=adapter.generation,
            sha256=adapter.sha256,
            rank=adapter.rank,
            targets=adapter.targets,
            num_bytes=adapter.num_bytes,
            manifest=adapter.manifest,
            folder=adapter.folder,
            state=in_memory if adapter.is_resident else AdapterState.REGISTERED,
            pinned=pinned,
            routable=routable,
            draining=draining,
            in_flight=in_flight,
            last_used=last_used,
        )
