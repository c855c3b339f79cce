from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Network, Operation, Variable

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)
OP = Operation("relu", {"X": ("x",), "Many": ("w", "x")}, {"Out": ("y",)}, {"axes": [1, 2], "axis": 3}, "relu")


@pytest.fixture
def builder() -> GraphBuilder:
    variables = {"x": Variable((-1, 3), F32), "y": Variable((-1, 3), I32), "odd": Variable(None, None)}
    parameters = {"w": np.ones((2, 3), np.float16), "unread": np.ones(3, np.float32)}
    made = GraphBuilder(Network(Path("m"), ("x",), ("y",), (OP,), variables, parameters))
    made.add_input("x", ir.Value(name="x"))
    made.begin(OP)
    return made


def test_parameters_become_initializers_once_and_when_read(builder: GraphBuilder) -> None:
    first, second = builder.input(OP, "Many"), builder.input(OP, "Many")
    assert first is second
    assert [value.name for value in builder.initializers] == ["w"]
    assert first.dtype == ir.DataType.FLOAT16


def test_what_is_made_on_the_way_is_named_after_the_operation(builder: GraphBuilder) -> None:
    x = builder.input(OP)
    names = [builder.emit("Relu", [x]).name for _ in range(3)]
    assert names == ["y/Relu", "y/Relu_2", "y/Relu_3"]
    assert [node.name for node in builder.nodes] == names
    assert builder.constant([1], "axes").name == "y/axes"


def test_the_result_gets_paddles_name(builder: GraphBuilder) -> None:
    builder.bind("y", builder.emit("Relu", [builder.input(OP)]))
    assert builder.nodes[0].name == builder.nodes[0].outputs[0].name == "y"
    assert builder.value(OP, "y") is builder.nodes[0].outputs[0]


def test_a_value_that_has_a_name_is_copied(builder: GraphBuilder) -> None:
    builder.bind("y", builder.input(OP))
    assert builder.nodes[0].op_type == "Identity"
    assert builder.input(OP).name == "x"


def test_a_constant_simply_gets_the_name(builder: GraphBuilder) -> None:
    builder.bind("y", builder.constant(2.0))
    assert not builder.nodes
    assert [value.name for value in builder.initializers] == ["y"]


@pytest.mark.parametrize(("given", "dtype"), [([1, 2], ir.DataType.INT64), (0.5, ir.DataType.FLOAT)])
def test_bare_numbers_have_the_usual_type(given: Any, dtype: ir.DataType, builder: GraphBuilder) -> None:
    assert builder.constant(given).dtype == dtype


def test_a_constant_without_axes_stays_so(builder: GraphBuilder) -> None:
    assert builder.constant(np.asarray(1.0, np.float32)).const_value.shape == ()  # type: ignore[union-attr]


def test_types_and_axes_are_looked_up(builder: GraphBuilder) -> None:
    assert builder.rank(OP) == 2
    assert builder.rank(OP, "Many") == 2
    assert builder.shape("w") == (2, 3)
    assert builder.shape("x") == (-1, 3)
    assert builder.shape("nothing") is None
    assert builder.dtype(OP) == I32
    assert builder.dtype(OP, "w") == np.float16


@pytest.mark.parametrize(
    ("ask", "problem"),
    [
        (lambda b: b.input(OP, "Bias"), "its input Bias is missing"),
        (lambda b: b.input(OP, "X", 1), "its input X is missing"),
        (lambda b: b.value(OP, "z"), "it reads 'z', which nothing before it makes"),
        (lambda b: b.rank(OP, "Bias"), "the number of axes of its input Bias is not known"),
        (lambda b: b.dtype(OP, "odd"), "the element type of 'odd' is not known"),
        (lambda b: b.integers(OP, "starts"), "its starts is not a constant"),
    ],
)
def test_what_is_missing_is_told_with_operator_and_node(ask: Any, problem: str, builder: GraphBuilder) -> None:
    with pytest.raises(ModelError, match=f"operator relu of node 'y': {problem}; convert"):
        ask(builder)


def test_integers_are_a_list_or_one_or_the_default(builder: GraphBuilder) -> None:
    assert builder.integers(OP, "axes") == [1, 2]
    assert builder.integers(OP, "axis") == [3]
    assert builder.integers(OP, "starts", [7]) == [7]


def test_a_vector_of_tensors_goes_before_one_tensor_and_the_attribute(builder: GraphBuilder) -> None:
    assert builder.vector(OP, "axes", "None", "Nones").const_value is not None
    assert builder.vector(OP, "axes", "X").producer().op_type == "Reshape"  # type: ignore[union-attr]
    joined = builder.vector(OP, "axes", "X", "Many").producer()
    assert joined is not None
    assert (joined.op_type, len(joined.inputs)) == ("Concat", 2)
