from __future__ import annotations

import pytest
from google.protobuf.message import EncodeError
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.graph.importers.paddle.framework import AttributeType, VarKind, message


def test_the_bytes_are_those_of_the_published_schema() -> None:
    # Field 1 (inputs) of OpDesc holds a message whose field 1 is "X" and field 2 is "a"; field 3 is the type.
    op = message("OpDesc")
    op.type = "relu"
    op.inputs.add(parameter="X", arguments=["a"])
    assert op.SerializeToString() == b"\x0a\x06\x0a\x01X\x12\x01a\x1a\x04relu"


def test_repeated_numbers_are_not_packed() -> None:
    tensor = message("TensorDesc")
    tensor.data_type = int(VarKind.FP32)
    tensor.dims.extend([-1, 3])
    assert tensor.SerializeToString() == b"\x08\x05\x10" + b"\xff" * 9 + b"\x01\x10\x03"


@pytest.mark.parametrize(
    ("field", "kind", "value", "tag"),
    [
        ("i", AttributeType.INT, 7, b"\x18\x07"),
        ("b", AttributeType.BOOLEAN, True, b"\x50\x01"),
        ("l", AttributeType.LONG, 1 << 40, b"\x68" + b"\x80" * 5 + b"\x20"),
        ("s", AttributeType.STRING, "NCHW", b"\x2a\x04NCHW"),
    ],
)
def test_attributes_lie_in_the_field_of_their_type(field: str, kind: AttributeType, value: object, tag: bytes) -> None:
    attribute = message("Attribute")
    attribute.name, attribute.type = "a", int(kind)
    setattr(attribute, field, value)
    assert attribute.SerializeToString() == b"\x0a\x01a\x10" + bytes([kind]) + tag


def test_what_is_required_must_be_there() -> None:
    with pytest.raises(EncodeError):
        message("OpDesc").SerializeToString()


def test_a_message_that_is_not_in_the_schema_is_no_message() -> None:
    with pytest.raises(KeyError):
        message("OpProto")


@given(st.integers(100, 500), st.binary(min_size=1, max_size=20))
def test_fields_of_a_newer_schema_are_kept(number: int, content: bytes) -> None:
    # A length-delimited field that we know nothing of, at the end of a version.
    key, tag = (number << 3) | 2, b""
    while key:
        tag += bytes([key & 0x7F | (0x80 if key > 0x7F else 0)])
        key >>= 7
    data = b"\x08\x05" + tag + bytes([len(content)]) + content
    version = message("Version")
    version.ParseFromString(data)
    assert version.version == 5
    assert version.SerializeToString() == data


def test_a_type_that_is_not_known_stays_in_its_place() -> None:
    var = message("VarType")
    var.ParseFromString(b"\x08\x63")  # kind 99
    assert var.type == 99
    assert var.SerializeToString() == b"\x08\x63"
