"""The compiled kernels as Python functions over tensors. The one place that knows their C interface."""

import ctypes
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from specialists.engine.native.build import BuildError, build_kernels

MAX_GROUP = 16  # query heads that may share a key head
MAX_HEAD_DIM = 256
MAX_RANK = 64
TARGETS_PER_PRODUCT = 3
ADAPTER_WORDS = 5 * TARGETS_PER_PRODUCT + 1  # 8-byte words of the C struct Adapter
TILE_ROWS = 16
LANES = 16

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_SIGNATURES: dict[str, tuple[type, ...]] = {
    "polymath_set_threads": (_INT,),
    "polymath_add_norm": (_POINTER, _POINTER, _POINTER, _POINTER, _LONG, _LONG, _FLOAT),
    "polymath_rotate_and_store": (
        *(_POINTER, _LONG, _INT, _INT, _INT, _POINTER, _POINTER, _FLOAT),
        *(_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _LONG),
    ),
    "polymath_attention": (
        *(_POINTER, _LONG, _LONG, _INT, _INT, _INT, _POINTER, _POINTER, _LONG),
        *(_POINTER, _POINTER, _POINTER, _LONG, _FLOAT, _POINTER, _INT),
    ),
    "polymath_silu_mul": (_POINTER, _POINTER, _LONG, _LONG),
    "polymath_lora": (_POINTER, _POINTER, _POINTER, _LONG, _POINTER, _LONG),
}
_LINEAR_SIGNATURE = (_POINTER, _LONG, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER)


class PackedWeightStruct(ctypes.Structure):
    """The C struct PackedWeight."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("in_features", ctypes.c_int64),
        ("out_features", ctypes.c_int64),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class LoraRowsStruct(ctypes.Structure):
    """The C struct LoraRows."""

    _fields_ = (
        ("stride", ctypes.c_int64),
        ("slots", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("num_runs", ctypes.c_int64),
        ("rows", ctypes.c_void_p),
        ("reduced", ctypes.c_void_p),
    )


class Kernels:
    """The loaded library. Arguments are pointers and sizes as in kernels.cpp; tensors must be contiguous bf16."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        signatures = dict(_SIGNATURES)
        # 8-bit and bf16 products by vector instructions that not every processor has
        self.has_linear = bool(library.polymath_has_linear())
        if self.has_linear:
            signatures["polymath_linear"] = _LINEAR_SIGNATURE
        for name, arguments in signatures.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = None
            setattr(self, name.removeprefix("polymath_"), function)
        self.set_threads(torch.get_num_threads())

    set_threads: "ctypes._FuncPointer"
    add_norm: "ctypes._FuncPointer"
    rotate_and_store: "ctypes._FuncPointer"
    attention: "ctypes._FuncPointer"
    silu_mul: "ctypes._FuncPointer"
    lora: "ctypes._FuncPointer"
    linear: "ctypes._FuncPointer"


_scratch_folders: list[tempfile.TemporaryDirectory[str]] = []  # kept until the process ends


@cache
def load_kernels(folder: Path | None) -> Kernels:
    """The kernels, compiled into `folder` (or for this process alone) when they are not there yet. Raises BuildError."""
    if folder is None:
        _scratch_folders.append(tempfile.TemporaryDirectory(prefix="polymath-kernels-"))
        folder = Path(_scratch_folders[-1].name)
    path = build_kernels(folder)
    try:
        return Kernels(path)
    except OSError as error:
        raise BuildError(f"{path} cannot be loaded: {error}") from error


def address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
