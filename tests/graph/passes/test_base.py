from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes import PassResult, common

from ocrslim.graph.passes import affine, fold, fuse
from ocrslim.graph.passes.base import (
    Pass,
    array_of,
    attribute,
    is_scalar,
    make_initializer,
    merge,
    only_reader,
    replace,
    scalar_of,
)

Build = Callable[..., ir.Model]

PASSES = (
    affine.FoldAffineBackward,
    affine.FoldAffineForward,
    fold.DropNoOps,
    fold.FoldConstants,
    fold.FoldShapes,
    fuse.FuseGelu,
    fuse.FuseHardSwish,
    fuse.FuseLayerNormalization,
)


def value(model: ir.Model, name: str) -> ir.Value:
    found = {output.name: output for node in model.graph for output in node.outputs}
    found |= dict(model.graph.initializers) | {item.name: item for item in model.graph.inputs}
    return found[name]


@pytest.mark.parametrize("kind", PASSES)
def test_every_pass_is_documented_by_numbered_rules(kind: type[Pass]) -> None:
    assert kind.__doc__ is not None
    assert "\n    1. " in kind.__doc__


@pytest.mark.parametrize("kind", PASSES)
def test_every_pass_says_when_it_changed_nothing(kind: type[Pass], build: Build) -> None:
    model = build("a = Conv(x, w) b = Relu(a) y = Sigmoid(b)", {"w": np.ones((4, 3, 1, 1), np.float32)})
    common.ShapeInferencePass()(model)
    before = ir.to_proto(model).SerializeToString()
    result = kind()(model)
    assert isinstance(result, PassResult)
    assert result.model is model
    assert not result.modified
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize("kind", PASSES)
def test_no_pass_stumbles_over_odd_graphs(kind: type[Pass], build: Build) -> None:
    """Omitted inputs, operators without inputs, several outputs, weights that are computed, values of unknown shape."""
    body = """
        n = NonZero(x) f = Cast<to=1>(n) k = Constant<value_float=1.0>() m = Mul(f, k) t = Transpose(m)
        p, q = Split<axis=0, num_outputs=2>(t) r = Relu(p) v = Conv(x, r) e = Erf(q) d = Div(e, e) s = Sub(d, e)
        z = Reshape(s, h) c = Clip(z, , k) u = Unsqueeze(c, o) w = Squeeze(u) a = Mul(w, w) y = Add(a, k)
    """
    model = build(body, {"h": np.array([-1]), "o": np.array([0])})
    common.ShapeInferencePass()(model)
    kind()(model)
    onnx.checker.check_model(_checked(model))


def _checked(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    for output in proto.graph.output:
        output.type.tensor_type.shape.SetInParent()
    return proto


def test_constants_are_read_through_nodes_and_initializers_not_inputs(build: Build) -> None:
    model = build(
        "k = Constant<value_float=2.5>() a = Mul(x, k) y = Mul(a, w)", {"w": np.float32([1, 2, 3]).reshape(3, 1, 1)}
    )
    assert scalar_of(value(model, "k")) == 2.5
    assert scalar_of(value(model, "w")) is None
    array = array_of(value(model, "w"))
    assert array is not None
    assert array.shape == (3, 1, 1)
    assert array_of(value(model, "x")) is None
    assert array_of(value(model, "a")) is None
    assert array_of(None) is None
    model.graph.inputs.append(value(model, "w"))  # may be overridden by the caller, so it is no constant
    assert array_of(value(model, "w")) is None


@pytest.mark.parametrize(
    ("number", "wanted", "answer"),
    [(1 / 6, 1 / 6, True), (0.16666667, 1 / 6, True), (0.1666, 1 / 6, False), (2.0, 2.0, True), (-2.0, 2.0, False)],
)
def test_is_scalar_is_relative(build: Build, number: float, wanted: float, answer: bool) -> None:
    model = build("y = Mul(x, w)", {"w": np.float32([[number]])})
    assert is_scalar(value(model, "w"), wanted) is answer


def test_only_reader(build: Build) -> None:
    model = build("a = Relu(x) b = Relu(a) c = Add(b, b) d = Relu(c) e = Sigmoid(c) y = Add(d, e)")
    reader = only_reader(value(model, "a"))
    assert reader is not None
    assert reader.name == "Relu_1"
    assert only_reader(value(model, "b")) is None  # read twice, if by one node
    assert only_reader(value(model, "c")) is None
    assert only_reader(value(model, "y")) is None  # a graph output, read by no node
    model.graph.outputs.append(value(model, "a"))
    assert only_reader(value(model, "a")) is None


def test_attribute(build: Build) -> None:
    node = next(iter(build("y = HardSigmoid<alpha=0.5>(x)").graph))
    assert attribute(node, "alpha", 0.2) == 0.5
    assert attribute(node, "beta", 0.5) == 0.5


def test_a_new_initializer_never_takes_a_name_that_is_taken(build: Build) -> None:
    model = build("y = Mul(x, w)", {"w": np.float32([1])})
    names = [make_initializer(model.graph, "w", np.float32([number])).name for number in (2, 3)]
    assert names == ["w.1", "w.2"]
    assert value(model, "w.2").const_value.numpy().tolist() == [3.0]
    assert value(model, "w.2").dtype == ir.DataType.FLOAT


@pytest.mark.parametrize(("rename", "name"), [(False, "a"), (True, "b")])
def test_merge_takes_the_node_out(build: Build, rename: bool, name: str) -> None:
    model = build("a = Relu(x) b = Identity(a) c = Sigmoid(b) y = Add(c, b)")
    node = value(model, "b").producer()
    assert node is not None
    assert merge(node, value(model, "a"), rename)
    assert [item.op_type for item in model.graph] == ["Relu", "Sigmoid", "Add"]
    assert {item.name for node in model.graph for item in node.inputs if item is not None} == {"x", name, "c"}


def test_replace_keeps_the_names_of_node_and_value(build: Build) -> None:
    model = build("a = Relu(x) b = Sigmoid(a) y = Tanh(b)")
    last = list(model.graph)[-1]
    first = value(model, "a")
    node = replace(last, "HardSigmoid", [first], {"alpha": 0.25})
    common.RemoveUnusedNodesPass()(model)
    assert [(item.name, item.op_type) for item in model.graph] == [("Relu_0", "Relu"), ("Tanh_2", "HardSigmoid")]
    assert node.outputs[0].is_graph_output()
    assert [item.name for item in model.graph.outputs] == ["y"]
    onnx.checker.check_model(_checked(model))


def test_the_output_of_a_replaced_node_is_of_the_same_type_and_shape(build: Build) -> None:
    model = build("a = Relu(x) y = Sigmoid(a)", x="float[N,3,H,W]", y="float[N,3,H,W]")
    old: Any = value(model, "y").shape
    node = replace(list(model.graph)[-1], "Tanh", [value(model, "a")], {})
    assert node.outputs[0].shape == old
    assert node.outputs[0].dtype == ir.DataType.FLOAT
