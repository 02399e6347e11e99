"""The header of a safetensors file, checked before anything is made of it. No torch here.

Eight bytes of length (little endian), then a JSON object of that length: for each tensor its type, shape and place in the
rest of the file, which the tensors have to fill without a gap or an overlap.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from specialists.adapters.errors import AdapterError, shown
from specialists.adapters.json_object import is_whole, parse_object

_MAX_HEADER_BYTES = 4 * 1024 * 1024
_MAX_DIMENSIONS = 8
_METADATA = "__metadata__"
# All types of the format with their sizes in bytes: which of them an adapter may have is not decided here.
_SIZES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the file. `start` and `end` count bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(file: BinaryIO, path: Path, file_size: int, digest: "hashlib._Hash") -> list[TensorEntry]:
    """The tensors in the order of the file, which stands at the first one's bytes then; `digest` gets what was read.

    Raises AdapterError `header_invalid`.
    """
    prefix = file.read(8)
    if len(prefix) != 8:
        raise _invalid(path, f"it has {len(prefix)} bytes, expected at least 8")
    length = int.from_bytes(prefix, "little")
    if length > min(_MAX_HEADER_BYTES, file_size - 8):
        raise _invalid(
            path,
            f"a header of {length} bytes in a file of {file_size}, expected at most {_MAX_HEADER_BYTES} "
            "and no more than the file has",
        )
    content = file.read(length)
    digest.update(prefix)
    digest.update(content)
    try:
        header = parse_object(content)
    except ValueError as error:
        raise _invalid(path, f"the header is not a JSON object: {error}") from error
    _check_metadata(path, header.pop(_METADATA, {}))
    entries = [_entry_of(path, name, value) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.start, entry.end))
    _check_places(path, entries, file_size - 8 - length)
    return entries


def _check_metadata(path: Path, metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _invalid(path, f"{_METADATA} is {shown(metadata)}, expected texts by name")


def _entry_of(path: Path, name: str, value: Any) -> TensorEntry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _invalid(
            path, f"tensor {shown(name)} is {shown(value)}, expected dtype, shape and data_offsets"
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise _invalid(
            path, f"tensor {shown(name)} has the type {shown(dtype)}, which the format does not know"
        )
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS or not all(map(_is_size, shape)):
        raise _invalid(path, f"tensor {shown(name)} has the shape {shown(shape)}, expected a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise _invalid(path, f"tensor {shown(name)} has the data_offsets {shown(offsets)}, expected two")
    num_bytes = _SIZES[dtype]
    for size in shape:
        num_bytes *= size
    start, end = offsets
    if end - start != num_bytes:
        raise _invalid(
            path,
            f"tensor {shown(name)} lies from {start} to {end}, expected the {shown(num_bytes)} bytes of its shape",
        )
    return TensorEntry(name, dtype, tuple(shape), start, end)


def _is_size(value: object) -> bool:
    return is_whole(value) and 0 <= value < 2**63  # type: ignore[operator]


def _check_places(path: Path, entries: list[TensorEntry], num_bytes: int) -> None:
    position = 0
    for entry in entries:
        if entry.start != position:
            what = "overlaps the one before" if entry.start < position else "leaves a gap before it"
            raise _invalid(path, f"tensor {shown(entry.name)} starts at {entry.start}, which {what}")
        position = entry.end
    if position != num_bytes:
        raise _invalid(path, f"its tensors end at {position} of {num_bytes} bytes")


def _invalid(path: Path, found: str) -> AdapterError:
    return AdapterError(f"{path} is not a whole safetensors file: {found}", code="header_invalid")
