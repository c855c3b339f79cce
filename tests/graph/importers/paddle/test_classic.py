from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.classic import attribute_value, read_classic
from ocrslim.graph.importers.paddle.convert import to_onnx
from ocrslim.graph.importers.paddle.framework import AttributeType, VarKind, message
from ocrslim.graph.importers.paddle.program import Array, Program

FLOAT = ((-1, 3), np.float32)
Make = Callable[..., Program]
Run = Callable[..., Any]


def test_a_program_is_told_in_full(small: tuple[Program, dict[str, Array]]) -> None:
    program, arrays = small
    network = read_classic(program, arrays)
    assert (network.inputs, network.outputs) == (("x",), ("y",))
    assert [operation.type for operation in network.operations] == ["conv2d", "elementwise_add", "sigmoid"]
    conv = network.operations[0]
    assert conv.inputs == {"Input": ("x",), "Filter": ("conv2d_0.w_0",)}
    assert conv.name == "conv2d_0.tmp_0"
    assert conv.attributes["paddings"] == [1, 1]
    assert network.variables["y"].shape == (-1, 1, -1, -1)
    assert network.variables["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (AttributeType.INT, "i", -3),
        (AttributeType.FLOAT, "f", 0.5),
        (AttributeType.STRING, "s", "NCHW"),
        (AttributeType.INTS, "ints", [1, 2]),
        (AttributeType.FLOATS, "floats", [0.5, 2.0]),
        (AttributeType.STRINGS, "strings", ["a", "b"]),
        (AttributeType.BOOLEAN, "b", True),
        (AttributeType.BOOLEANS, "bools", [True, False]),
        (AttributeType.LONG, "l", 1 << 40),
        (AttributeType.LONGS, "longs", [1 << 40]),
        (AttributeType.FLOAT64S, "float64s", [0.1]),
        (AttributeType.FLOAT64, "float64", 0.1),
        (AttributeType.VAR, "var_name", "a"),
        (AttributeType.VARS, "vars_name", ["a"]),
    ],
)
def test_each_kind_of_attribute_is_read(kind: AttributeType, field: str, value: Any) -> None:
    attribute = message("Attribute")
    attribute.name, attribute.type = "a", int(kind)
    if isinstance(value, list):
        getattr(attribute, field).extend(value)
    else:
        setattr(attribute, field, value)
    assert attribute_value(attribute) == value


@pytest.mark.parametrize(("kind", "field", "value"), [(1, "b", True), (2, "i", -5), (3, "r", 0.25)])
def test_scalars_are_read(kind: int, field: str, value: Any) -> None:
    attribute = message("Attribute")
    attribute.name, attribute.type = "a", int(AttributeType.SCALARS)
    scalar = attribute.scalars.add(type=kind)
    setattr(scalar, field, value)
    assert attribute_value(attribute) == [value]


def test_a_block_is_no_value() -> None:
    attribute = message("Attribute")
    attribute.name, attribute.type = "sub_block", int(AttributeType.BLOCK)
    assert attribute_value(attribute) is None


def test_element_types_become_dtypes(make_program: Make) -> None:
    cast = ("cast", {"X": ["x"]}, {"Out": ["y"]}, {"in_dtype": 5, "out_dtype": 3})
    network = read_classic(make_program([cast], {"x": FLOAT, "y": ((-1, 3), np.int64)}), {})
    assert network.operations[0].attributes["out_dtype"] == np.int64


def test_a_name_that_is_written_twice_gets_a_number(make_program: Make, run_onnx: Run) -> None:
    # y = relu(exp(x)) with both results called "a", as a program with operators in place has it.
    operations = [
        ("exp", {"X": ["x"]}, {"Out": ["a"]}, {}),
        ("square", {"X": ["a"]}, {"Out": ["a"]}, {}),
        ("relu", {"X": ["a"]}, {"Out": ["y"]}, {}),
    ]
    network = read_classic(make_program(operations, {"x": FLOAT, "a": FLOAT, "y": FLOAT}), {})
    assert [operation.name for operation in network.operations] == ["a", "a.1", "y"]
    assert network.operations[2].inputs == {"X": ("a.1",)}
    x = np.array([[0.0, 1.0, -1.0]], np.float32)
    np.testing.assert_allclose(run_onnx(to_onnx(network), {"x": x})[0], np.exp(x) ** 2, rtol=1e-6)


def test_a_batch_norm_leaves_its_statistics_as_they_are(make_program: Make, run_onnx: Run) -> None:
    norm = (
        "batch_norm",
        {"X": ["x"], "Scale": ["s"], "Bias": ["b"], "Mean": ["m"], "Variance": ["v"]},
        {"MeanOut": ["m"], "VarianceOut": ["v"], "SavedMean": ["t0"], "SavedVariance": ["t1"], "Y": ["y"]},
        {"epsilon": 1e-5, "is_test": True, "data_layout": "NCHW"},
    )
    arrays = {name: np.full(3, number, np.float32) for name, number in zip("sbmv", (2, 1, 3, 4), strict=True)}
    variables = {"x": FLOAT, "y": FLOAT} | {name: ((3,), np.float32) for name in arrays}
    network = read_classic(make_program([norm], variables, tuple(arrays)), arrays)
    assert network.operations[0].name == "y"  # the main output goes first, wherever the file has it
    x = np.zeros((2, 3), np.float32)
    np.testing.assert_allclose(run_onnx(to_onnx(network), {"x": x})[0], 2 * (x - 3) / np.sqrt(4 + 1e-5) + 1, rtol=1e-6)


def test_control_flow_is_refused(small: tuple[Program, dict[str, Array]]) -> None:
    program, arrays = small
    program.desc.blocks.add(idx=1, parent_idx=0)
    with pytest.raises(ModelError, match="has control flow"):
        read_classic(program, arrays)


@pytest.mark.parametrize("missing", ["inputs", "outputs"])
def test_a_program_that_takes_or_gives_nothing_is_refused(make_program: Make, missing: str) -> None:
    relu = ("relu", {"X": ["x"]}, {"Out": ["y"]}, {})
    program = make_program([relu], {"x": FLOAT, "y": FLOAT}, **{missing: ()})
    program.path = Path("some.pdmodel")
    with pytest.raises(ModelError, match=r"some\.pdmodel: has no feed or no fetch"):
        read_classic(program, {})


def test_what_is_no_tensor_has_no_shape(make_program: Make) -> None:
    program = make_program([("relu", {"X": ["x"]}, {"Out": ["y"]}, {})], {"x": FLOAT, "y": FLOAT})
    var = program.blocks[0].vars.add(name="list")
    var.type.type = int(VarKind.RAW)
    variable = read_classic(program, {}).variables["list"]
    assert (variable.shape, variable.dtype) == (None, None)
