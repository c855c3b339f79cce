from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from ocrslim.errors import ModelError
from ocrslim.graph.executor.program import Step, compile_steps, constants_of, plan, to_torch

Build = Callable[..., ir.Model]


def step(node: str, inputs: str, outputs: str) -> Step:
    return Step(node, "Any", lambda *values: values[0], tuple(inputs.split()), tuple(outputs.split()))


#   x -> a -> c -> y
#   x -> b ---^     (c reads a and b), d reads a alone; w is a constant of b
GRAPH = [step("A", "x", "a"), step("B", "x w", "b"), step("C", "a b", "c"), step("D", "a", "d"), step("Y", "c", "y")]


def planned(*wanted: str) -> list[str]:
    return [chosen.node for chosen, _ in plan(GRAPH, wanted, ["x"], {"w", "v"}).steps]


@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [
        ("y", ["A", "B", "C", "Y"]),
        ("c", ["A", "B", "C"]),
        ("d", ["A", "D"]),
        ("d b", ["A", "B", "D"]),
        ("b d", ["A", "B", "D"]),
        ("x", []),
        ("w", []),
        ("y d", ["A", "B", "C", "D", "Y"]),
    ],
)
def test_a_plan_runs_what_is_needed_in_the_graphs_order(wanted: str, nodes: list[str]) -> None:
    assert planned(*wanted.split()) == nodes


def test_a_plan_frees_each_value_after_its_last_reader() -> None:
    dead = {chosen.node: set(names) for chosen, names in plan(GRAPH, ["y"], ["x"], {"w"}).steps}
    assert dead == {"A": set(), "B": {"x", "w"}, "C": {"a", "b"}, "Y": {"c"}}


def test_a_plan_begins_behind_what_is_given() -> None:
    found = plan(GRAPH, ["y"], ["x", "b"], {"w", "v"})
    assert [chosen.node for chosen, _ in found.steps] == ["A", "C", "Y"]
    assert found.constants == ()


def test_a_plan_keeps_what_is_wanted() -> None:
    freed = {name for _, names in plan(GRAPH, ["y", "a", "x"], ["x"], {"w"}).steps for name in names}
    assert freed == {"w", "b", "c"}


def test_a_plan_frees_at_once_what_nothing_reads() -> None:
    two = [Step("S", "Split", lambda x: (x, x), ("x",), ("left", "right")), step("Y", "left", "y")]
    dead = {chosen.node: set(names) for chosen, names in plan(two, ["y"], ["x"], ()).steps}
    assert "right" in dead["S"]


def test_a_plan_names_the_constants_that_it_reads() -> None:
    assert plan(GRAPH, ["y"], ["x"], {"w", "v"}).constants == ("w",)
    assert plan(GRAPH, ["d"], ["x"], {"w", "v"}).constants == ()
    assert plan(GRAPH, ["v"], ["x"], {"w", "v"}).constants == ("v",)


def test_a_plan_for_an_unknown_value_is_refused() -> None:
    with pytest.raises(ModelError, match="no value of the graph is named 'z'"):
        plan(GRAPH, ["y", "z"], ["x"], {"w"})


def test_steps_are_sorted_and_skip_constants(build: Build) -> None:
    model = build("k = Constant<value_float=2.0>() a = Mul(x, k) b = Relu(a) y = Sigmoid(b)")
    first = next(node for node in model.graph if node.op_type == "Mul")
    last = next(node for node in model.graph if node.op_type == "Sigmoid")
    model.graph.remove(first)
    model.graph.insert_after(last, first)
    steps = compile_steps(model)
    assert [item.op_type for item in steps] == ["Mul", "Relu", "Sigmoid"]
    assert steps[0].inputs == ("x", "k")
    assert steps[0].outputs == ("a",)


def test_attributes_are_bound_and_omitted_inputs_are_none(build: Build) -> None:
    model = build("y = Resize<mode='linear'>(x, , , s)", {"s": np.array([1, 3, 4, 4])})
    (only,) = compile_steps(model)
    assert only.inputs == ("x", None, None, "s")
    result = only.function(torch.zeros(1, 3, 2, 2), None, None, torch.tensor([1, 3, 4, 4]))
    assert result.shape == (1, 3, 4, 4)


def test_an_attribute_that_no_one_reads_is_refused(build: Build) -> None:
    model = build("y = Relu(x)")
    next(iter(model.graph)).attributes["slope"] = ir.AttrFloat32("slope", 0.1)
    with pytest.raises(ModelError, match="attribute 'slope' of Relu node 'Relu_0' is not supported"):
        compile_steps(model)


def test_constants_come_from_initializers_and_nodes(build: Build) -> None:
    model = build("k = Constant<value_ints=[1, 2]>() t = Reshape(w, k) y = Mul(x, t)", {"w": np.float32([[1], [2]])})
    found = constants_of(model)
    assert {name: tensor.numpy().tolist() for name, tensor in found.items()} == {"k": [1, 2], "w": [[1], [2]]}


@pytest.mark.parametrize(
    "array",
    [
        np.float32(1.5),
        np.zeros((0, 3), np.float32),
        np.arange(6, dtype=np.int64).reshape(2, 3).T,
        np.array([True, False]),
        np.float16([1.5]),
        np.int8([-128, 127]),
    ],
)
def test_tensors_are_copied_with_type_and_shape(array: Any) -> None:
    made = to_torch(ir.tensor(array, name="t"))
    assert tuple(made.shape) == np.shape(array)
    np.testing.assert_array_equal(made.numpy(), array)
    assert made.numpy().dtype == np.asarray(array).dtype
    if made.numel():
        made.zero_()
        assert np.asarray(array).any()


def test_a_type_that_torch_lacks_is_told() -> None:
    with pytest.raises(ModelError, match="tensor 'odd' has the type STRING"):
        to_torch(ir.StringTensor([b"a"], shape=ir.Shape([1]), name="odd"))
