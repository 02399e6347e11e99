"""The header of a weights file: whole, or refused before any value is read."""

import json
import struct
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from specialists.adapters.errors import AdapterError
from specialists.adapters.safetensors_header import TensorEntry, read_header

PATH = Path("weights.safetensors")
GOOD = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def read(content: bytes) -> list[TensorEntry]:
    return read_header(BytesIO(content), PATH, len(content), sha256())


def packed(header: object, num_bytes: int = 24) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + bytes(num_bytes)


def test_reads_what_the_library_writes():
    tensors = {"b": torch.zeros(2, 3), "a": torch.zeros(5, dtype=torch.bfloat16), "c": torch.zeros(0, 4)}
    content = save(tensors, metadata={"format": "pt"})
    digest = sha256()
    file = BytesIO(content)
    entries = read_header(file, PATH, len(content), digest)
    assert {entry.name: (entry.dtype, entry.shape) for entry in entries} == {
        "a": ("BF16", (5,)),
        "b": ("F32", (2, 3)),
        "c": ("F32", (0, 4)),
    }
    assert digest.digest() == sha256(content[: file.tell()]).digest()
    assert sum(entry.end - entry.start for entry in entries) == len(content) - file.tell()


def test_spaces_after_the_object_are_fine():
    assert read(packed(json.dumps({"x": GOOD}).encode() + b"   "))[0].name == "x"


def test_no_tensors_at_all_is_a_whole_file():
    assert read(packed({}, 0)) == []


def entry(**changes: Any) -> dict[str, Any]:
    return {"x": GOOD | changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes, expected at least 8"),
        (b"1234567", "7 bytes"),
        (struct.pack("<Q", 2**63) + b"{}", "a header of 9223372036854775808 bytes"),
        (struct.pack("<Q", 3) + b"{}", "a header of 3 bytes in a file of 10"),
        (struct.pack("<Q", 5_000_000) + b" " * 5_000_000, "at most 4194304"),
        (packed(b"{" * 100_000), "not a JSON object"),
        (packed(b"[" * 100_000), "nested too deeply"),
        (packed(b"[]"), "holds a list"),
        (packed(b"\xff\xfe"), "not a JSON object"),
        (packed(b'{"x": 1, "x": 2}'), "a key stands there twice"),
        (packed(b'{"x": {"dtype": "F32", "dtype": "F16"}}'), "a key stands there twice"),
        (packed({"x": 1}), "tensor 'x' is 1, expected dtype, shape and data_offsets"),
        (packed({"x": GOOD | {"more": 1}}), "expected dtype, shape and data_offsets"),
        (packed({"__metadata__": {"a": 1}, "x": GOOD}), "expected texts by name"),
        (packed({"__metadata__": None, "x": GOOD}), "expected texts by name"),
        (packed(entry(dtype="F31")), "type 'F31', which the format does not know"),
        (packed(entry(dtype=["F32"])), "which the format does not know"),
        (packed(entry(shape=6)), "the shape 6"),
        (packed(entry(shape=[2, -3])), "the shape"),
        (packed(entry(shape=[True, 6])), "the shape"),
        (packed(entry(shape=[2.0, 3])), "the shape"),
        (packed(entry(shape=[1] * 9)), "the shape"),
        (packed(entry(shape=[2**63, 1])), "the shape"),
        (packed(entry(shape=[2**62] * 8)), "lies from 0 to 24, expected the"),
        (packed(entry(shape=[7])), "lies from 0 to 24, expected the 28 bytes"),
        (packed(entry(data_offsets=[0])), "data_offsets [0], expected two"),
        (packed(entry(data_offsets=[-24, 0])), "data_offsets"),
        (packed(entry(data_offsets=[24, 0])), "lies from 24 to 0"),
        (packed(entry(data_offsets=[8, 32]), 32), "leaves a gap"),
        (packed({"x": GOOD, "y": GOOD}), "overlaps"),
        (packed({"x": GOOD, "y": GOOD | {"data_offsets": [23, 47]}}, 47), "overlaps"),
        (packed({"x": GOOD}, 23), "end at 24 of 23 bytes"),
        (packed({"x": GOOD}, 25), "end at 24 of 25 bytes"),
        (packed({"\ud800\n" * 500: GOOD}, 0), "tensor"),
    ],
)
def test_refuses_the_rest(content: bytes, message: str):
    with pytest.raises(AdapterError) as refusal:
        read(content)
    assert refusal.value.code == "header_invalid"
    assert message in str(refusal.value)
    assert str(refusal.value).isascii() and len(str(refusal.value)) < 500
