"""How much the adapters of one server may be. No torch here."""

from dataclasses import dataclass

_GIB = 1024**3
DEFAULT_MAX_FILE_BYTES = _GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterLimits:
    """Limits of an `AdapterRegistry`. Raises ValueError naming the field when a value cannot work.

    `max_registered` names can be loaded at a time. Of them at most `max_resident`, with at most `max_resident_bytes` as the
    engine keeps them, are in memory. A weights file may have `max_file_bytes`. A request whose adapter has to come back
    into memory waits at most `room_seconds` for others to end when they take all the room.
    """

    max_registered: int = 1024
    max_resident: int = 256
    max_resident_bytes: int = 4 * _GIB
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES
    room_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_registered", "max_resident", "max_resident_bytes", "max_file_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.room_seconds < 0:
            raise ValueError(f"room_seconds must be at least 0, got {self.room_seconds}")
