"""The messages of Paddle's ``framework.proto`` (syntax proto2), built anew at run time: paddle itself is not needed.

Only what an inference program holds is described. Anything else in a file is an unknown field to protobuf, which keeps
it. Enumerations are plain int32 fields: the bytes are the same, and a number that we don't know stays where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["AttributeType", "VarKind", "message"]

PACKAGE = "ocrslim.paddle"  # not paddle's own name: a process may have imported paddle as well
FieldProto = descriptor_pb2.FieldDescriptorProto


class AttributeType(IntEnum):
    """``AttrType``: which field of an ``OpDesc.Attr`` holds the value."""

    INT = 0
    FLOAT = 1
    STRING = 2
    INTS = 3
    FLOATS = 4
    STRINGS = 5
    BOOLEAN = 6
    BOOLEANS = 7
    BLOCK = 8
    LONG = 9
    BLOCKS = 10
    LONGS = 11
    FLOAT64S = 12
    VAR = 13
    VARS = 14
    FLOAT64 = 15
    SCALAR = 16
    SCALARS = 17


class VarKind(IntEnum):
    """``VarType.Type``: the type of an element, or the kind of a variable."""

    BOOL = 0
    INT16 = 1
    INT32 = 2
    INT64 = 3
    FP16 = 4
    FP32 = 5
    FP64 = 6
    DENSE_TENSOR = 7
    FEED_MINIBATCH = 9
    FETCH_LIST = 10
    RAW = 17
    UINT8 = 20
    INT8 = 21
    BF16 = 22


_TYPES = {
    "int32": FieldProto.TYPE_INT32,
    "int64": FieldProto.TYPE_INT64,
    "float": FieldProto.TYPE_FLOAT,
    "double": FieldProto.TYPE_DOUBLE,
    "bool": FieldProto.TYPE_BOOL,
    "string": FieldProto.TYPE_STRING,
}

# Message -> field -> (number, type); "[]" marks a repeated field and "!" a required one.
_SCHEMA: Mapping[str, Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "Version": {"version": (1, "int64")},
        "Complex": {"r": (1, "double!"), "i": (2, "double!")},
        "Scalar": {
            "type": (1, "int32!"),  # 1 boolean, 2 long, 3 float64, 4 complex128
            "b": (2, "bool"),
            "i": (3, "int64"),
            "r": (4, "double"),
            "c": (5, "Complex"),
        },
        "Attribute": {
            "name": (1, "string!"),
            "type": (2, "int32!"),
            "i": (3, "int32"),
            "f": (4, "float"),
            "s": (5, "string"),
            "ints": (6, "int32[]"),
            "floats": (7, "float[]"),
            "strings": (8, "string[]"),
            "b": (10, "bool"),
            "bools": (11, "bool[]"),
            "block_idx": (12, "int32"),
            "l": (13, "int64"),
            "blocks_idx": (14, "int32[]"),
            "longs": (15, "int64[]"),
            "float64s": (16, "double[]"),
            "var_name": (17, "string"),
            "vars_name": (18, "string[]"),
            "float64": (19, "double"),
            "scalar": (20, "Scalar"),
            "scalars": (21, "Scalar[]"),
        },
        "Argument": {"parameter": (1, "string!"), "arguments": (2, "string[]")},
        "OpDesc": {
            "inputs": (1, "Argument[]"),
            "outputs": (2, "Argument[]"),
            "type": (3, "string!"),
            "attrs": (4, "Attribute[]"),
            "is_target": (5, "bool"),
        },
        "TensorDesc": {"data_type": (1, "int32!"), "dims": (2, "int64[]")},
        "LodTensorDesc": {"tensor": (1, "TensorDesc!"), "lod_level": (2, "int32")},
        "ReaderDesc": {"lod_tensor": (1, "LodTensorDesc[]")},
        "VarType": {
            "type": (1, "int32!"),
            "selected_rows": (2, "TensorDesc"),
            "lod_tensor": (3, "LodTensorDesc"),
            "tensor_array": (4, "LodTensorDesc"),
            "reader": (5, "ReaderDesc"),
        },
        "VarAttribute": {
            "name": (1, "string!"),
            "type": (2, "int32!"),
            "i": (3, "int32"),
            "s": (4, "string"),
            "ints": (5, "int32[]"),
        },
        "VarDesc": {
            "name": (1, "string!"),
            "type": (2, "VarType!"),
            "persistable": (3, "bool"),
            "need_check_feed": (4, "bool"),
            "is_parameter": (5, "bool"),
            "stop_gradient": (6, "bool"),
            "attrs": (7, "VarAttribute[]"),
        },
        "BlockDesc": {
            "idx": (1, "int32!"),
            "parent_idx": (2, "int32!"),
            "vars": (3, "VarDesc[]"),
            "ops": (4, "OpDesc[]"),
            "forward_block_idx": (5, "int32"),
        },
        "OpVersion": {"version": (1, "int32!")},
        "OpVersionPair": {"op_name": (1, "string!"), "op_version": (2, "OpVersion!")},
        "OpVersionMap": {"pair": (1, "OpVersionPair[]")},
        "ProgramDesc": {
            "blocks": (1, "BlockDesc[]"),
            "version": (4, "Version"),
            "op_version_map": (5, "OpVersionMap"),
        },
    }
)


def message(name: str) -> Any:
    """Return a new, empty message such as ``ProgramDesc``, ``OpDesc``, ``VarDesc``, ``Attribute`` or ``TensorDesc``.

    Raises:
        KeyError: the schema has no such message.
    """
    return _CLASSES[name]()


def _file() -> descriptor_pb2.FileDescriptorProto:
    """Return the schema as protobuf describes a ``.proto`` file."""
    file = descriptor_pb2.FileDescriptorProto(name="ocrslim/paddle.proto", package=PACKAGE, syntax="proto2")
    for name, fields in _SCHEMA.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            entry = described.field.add(name=field, number=number, label=FieldProto.LABEL_OPTIONAL)
            if kind.endswith("[]"):
                entry.label = FieldProto.LABEL_REPEATED
            elif kind.endswith("!"):
                entry.label = FieldProto.LABEL_REQUIRED
            bare = kind.rstrip("[]!")
            if bare in _TYPES:
                entry.type = _TYPES[bare]
            else:
                entry.type, entry.type_name = FieldProto.TYPE_MESSAGE, f".{PACKAGE}.{bare}"
    return file


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _SCHEMA}


_CLASSES = _classes()
