"""Paddle's inference program (``.pdmodel``, ``__model__``) and its parameters (``.pdiparams``, ``__params__``).

A program is the message ``ProgramDesc`` of framework.proto. A parameter file holds the persistable tensors one after
the other, sorted by name, without their names, each as::

    <u32 version 0> <u64 levels of detail 0> <u32 version 0> <i32 n> <n bytes of TensorDesc> <raw data, row-major>

Written by protobuf and numpy alone, an untouched file comes out byte for byte as it went in.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from google.protobuf.message import DecodeError

from ocrslim.atomic import write_bytes
from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.files import MAX_BYTES
from ocrslim.graph.importers.paddle.framework import VarKind, message

__all__ = [
    "DTYPES",
    "Array",
    "Program",
    "read_parameters",
    "read_program",
    "write_parameters",
    "write_program",
]

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES: dict[int, np.dtype[Any]] = {
    VarKind.BOOL: np.dtype(np.bool_),
    VarKind.INT16: np.dtype(np.int16),
    VarKind.INT32: np.dtype(np.int32),
    VarKind.INT64: np.dtype(np.int64),
    VarKind.FP16: np.dtype(np.float16),
    VarKind.FP32: np.dtype(np.float32),
    VarKind.FP64: np.dtype(np.float64),
    VarKind.UINT8: np.dtype(np.uint8),
    VarKind.INT8: np.dtype(np.int8),
    VarKind.BF16: np.dtype(ml_dtypes.bfloat16),
}
"""Paddle's element types as numpy has them; all little-endian."""

_CODES = {dtype: kind for kind, dtype in DTYPES.items()}
_HEAD = struct.Struct("<IQIi")  # tensor version, levels of detail, version again, length of the description
_MOST_AXES = 32  # numpy's bound; and the product of a million sizes would take for ever
_NO_TENSOR = (VarKind.FEED_MINIBATCH, VarKind.FETCH_LIST, VarKind.RAW)
_AGAIN = "download or export the model again"


class Program:
    """An inference program: the raw message, and the ways into it that one needs.

    Args:
        desc: the ``ProgramDesc`` message; whoever changes it changes the program.
        path: where it came from, for messages to the user.
    """

    def __init__(self, desc: Any, path: Path = Path("program")) -> None:
        self.desc = desc
        self.path = path

    @property
    def blocks(self) -> Any:
        """The ``BlockDesc`` messages; an inference program without control flow has one."""
        return self.desc.blocks

    @property
    def ops(self) -> Any:
        """The ``OpDesc`` messages of the first block, in the order in which they run."""
        return self.desc.blocks[0].ops

    @property
    def vars(self) -> dict[str, Any]:
        """The ``VarDesc`` messages of the first block by name."""
        return {var.name: var for var in self.desc.blocks[0].vars}

    @property
    def persistable_names(self) -> list[str]:
        """The names of the parameters, sorted as ``.pdiparams`` holds them."""
        return sorted(
            var.name
            for block in self.desc.blocks
            for var in block.vars
            if var.persistable and var.type.type not in _NO_TENSOR
        )

    def clone(self) -> Program:
        """Return a copy that can be changed on its own."""
        desc = message("ProgramDesc")
        desc.CopyFrom(self.desc)
        return Program(desc, self.path)


def read_program(path: str | Path) -> Program:
    """Read a ``.pdmodel`` or ``__model__`` file.

    Raises:
        ModelError: there is no such file, or it holds no inference program.
    """
    path = Path(path)
    data = _read(path)
    desc = message("ProgramDesc")
    try:
        desc.ParseFromString(data)
        whole = bool(desc.blocks) and bool(desc.blocks[0].ops) and bool(desc.blocks[0].vars)
        _check_text(desc)
    except (DecodeError, UnicodeDecodeError):
        whole = False
    if not whole:
        raise ModelError(f"{path}: expected a Paddle program (.pdmodel or __model__), found {_found(data)}; {_AGAIN}")
    return Program(desc, path)


def write_program(program: Program, path: str | Path) -> None:
    """Write a program; an untouched one gives the bytes that it was read from."""
    write_bytes(Path(path), program.desc.SerializeToString())


def read_parameters(path: str | Path, names: Collection[str]) -> dict[str, Array]:
    """Read a ``.pdiparams`` or ``__params__`` file.

    Args:
        path: the file.
        names: of the parameters, in any order (``Program.persistable_names``): the file itself holds none.

    Returns:
        dict: the arrays by name, in the file's order. They are read-only views of the file's bytes.

    Raises:
        ModelError: there is no such file, it is no parameter file, it is cut off, or it has more or fewer tensors than
            the program has names.
    """
    path = Path(path)
    data = _read(path)
    arrays = list(_tensors(path, data, len(names)))
    return dict(zip(sorted(names), arrays, strict=True))


def write_parameters(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as a parameter file, sorted by name.

    Raises:
        ValueError: an array's type has no counterpart in Paddle.
    """
    parts = []
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        if array.dtype not in _CODES:
            raise ValueError(f"{name}: Paddle has no element type {array.dtype}")
        desc = message("TensorDesc")
        desc.data_type = int(_CODES[array.dtype])
        desc.dims.extend(array.shape)
        described = desc.SerializeToString()
        parts += [_HEAD.pack(0, 0, 0, len(described)), described, array.tobytes()]
    write_bytes(Path(path), b"".join(parts))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: larger than {MAX_BYTES >> 30} GiB; that is no PP-OCR model")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror}); a Paddle model is two files, give both") from error


def _tensors(path: Path, data: bytes, count: int) -> Iterator[Array]:
    """Yield the tensors of a parameter file one by one, and check that there are ``count`` and nothing else."""
    offset = 0
    for number in range(1, count + 1):
        which = f"tensor {number} of {count}"
        if offset and offset == len(data):
            raise ModelError(f"{path}: ends after {number - 1} of {count} tensors; is it of another model? {_AGAIN}")
        dtype, shape, offset = _tensor_head(path, data, offset, which)
        items = math.prod(shape)
        if len(data) - offset < items * dtype.itemsize:
            raise ModelError(f"{path}: cut off within {which} (shape {list(shape)}); {_AGAIN}")
        yield np.frombuffer(data, dtype, items, offset).reshape(shape)
        offset += items * dtype.itemsize
    if offset != len(data):
        raise ModelError(
            f"{path}: holds more than the {count} tensors of the program; is it of another model? {_AGAIN}"
        )


def _tensor_head(path: Path, data: bytes, offset: int, which: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return the element type, the shape and where the data begin of the tensor at ``offset``."""
    start = offset + _HEAD.size
    if len(data) < start and (offset or (data and not any(data))):
        raise ModelError(f"{path}: cut off within {which}; {_AGAIN}")
    version, levels, again, length = _HEAD.unpack(data[offset:start].ljust(_HEAD.size, b"\xff"))
    desc = message("TensorDesc")
    sane = not (version or levels or again) and 0 < length <= len(data) - start
    try:
        desc.ParseFromString(data[start : start + length] if sane else b"")
        sane = sane and desc.data_type in DTYPES and all(size >= 0 for size in desc.dims)
        sane = sane and len(desc.dims) <= _MOST_AXES and math.prod(size or 1 for size in desc.dims) < 1 << 62
    except DecodeError:
        sane = False
    if not sane:
        found = f"found {_found(data)}" if offset == 0 else f"{which} has no proper head"
        raise ModelError(f"{path}: expected Paddle parameters (.pdiparams or __params__), {found}; {_AGAIN}")
    return DTYPES[desc.data_type], tuple(desc.dims), start + length


def _check_text(desc: Any) -> None:
    """Look at every name: proto2 takes any bytes for text, and says so only when they are read.

    Raises:
        UnicodeDecodeError: one is not in UTF-8.
    """
    for block in desc.blocks:
        for op in block.ops:
            for slot in (*op.inputs, *op.outputs):
                _ = slot.parameter, *slot.arguments
            _ = op.type, *(attribute.name for attribute in op.attrs)
        _ = [var.name for var in block.vars]


def _found(data: bytes) -> str:
    """Say what a file seems to be, from its first bytes."""
    if not data:
        return "an empty file"
    if len(data) >= _HEAD.size and data[:16] == bytes(16) and 0 < _HEAD.unpack_from(data)[3] < 1000:
        return "what seems to be parameters (.pdiparams): the two files may be swapped"
    if data.lstrip()[:1] == b"{":
        return "JSON: give the .json file itself"
    for magic, kind in (
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip file"),
        (b"version https://git-lfs", "a git-lfs pointer"),
    ):
        if data.startswith(magic):
            return kind
    if data[:1] == b"\n" and b"\x12" in data[:4096] and b"conv2d" in data:
        return "what seems to be a program (.pdmodel), or part of one: the two files may be swapped, or one is cut off"
    return "something else, or a file that is cut off"
