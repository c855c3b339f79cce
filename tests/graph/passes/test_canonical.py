from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.passes.canonical import IR_VERSION, OPSET, canonicalize

Build = Callable[..., ir.Model]
Judge = Callable[[ir.Model, Any], Any]


def test_an_old_model_comes_out_new_with_its_names_and_metadata(build: Build, judge: Judge) -> None:
    body = "a = ReduceMean<axes=[3]>(x) b = Squeeze<axes=[3]>(a) c = Add(b, one) y = Softmax<axis=2>(c)"
    model = build(body, {"one": np.float32([0.5])}, opset=11)
    model.metadata_props["character"] = "甲\n乙"
    model.graph.doc_string = "kept"
    result = canonicalize(model)
    assert result.graph.opset_imports[""] == OPSET
    assert result.ir_version >= IR_VERSION
    assert result.metadata_props == {"character": "甲\n乙"}
    assert [node.op_type for node in result.graph] == ["ReduceMean", "Squeeze", "Add", "Softmax"]
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(judge(result, x), judge(model, x), atol=1e-6)
    onnx.checker.check_model(ir.to_proto(result), full_check=True)


def test_a_newer_opset_is_left_as_it_is(build: Build) -> None:
    assert canonicalize(build("y = Relu(x)", opset=22)).graph.opset_imports[""] == 22


def test_the_given_model_is_not_touched(build: Build) -> None:
    body = "a = Conv(x, w) b = Mul(a, c) d = Identity(b) y = Relu(d)"
    constants = {"w": np.ones((4, 3, 1, 1), np.float32), "c": np.float32([2])}
    model = build(body, constants, opset=12)
    before = ir.to_proto(model).SerializeToString()
    result = canonicalize(model)
    assert len(result.graph) == 2
    assert ir.to_proto(model).SerializeToString() == before


def test_weights_listed_as_inputs_are_weights(build: Build) -> None:
    """Exporters of IR version 3 had to list every initializer among the inputs."""
    model = build("y = Mul(x, w)", {"w": np.float32([2.0])}, opset=11)
    model.graph.inputs.append(model.graph.initializers["w"])
    result = canonicalize(model)
    assert [value.name for value in result.graph.inputs] == ["x"]
    assert GraphModule(result).parameter("w").item() == 2.0


def test_constant_nodes_become_initializers_of_their_name(build: Build) -> None:
    body = "w = Constant<value=float[1]{2.0}>() k = Constant<value_float=3.0>() a = Mul(x, w) y = Max(a, k)"
    result = canonicalize(build(body))
    assert {node.op_type for node in result.graph} == {"Mul", "Max"}
    assert set(result.graph.initializers) == {"w", "k"}


def test_nodes_without_names_and_with_the_same_get_their_own(build: Build) -> None:
    model = build("a = Relu(x) b = Sigmoid(a) c = Relu(b) y = Sigmoid(c)")
    for node, name in zip(model.graph, ("", "same", "same", None), strict=True):
        node.name = name
    names = [node.name for node in canonicalize(model).graph]
    assert all(names)
    assert len(set(names)) == 4
    assert "same" in names


def test_sizes_that_the_exporter_did_not_know_are_open(build: Build) -> None:
    model = build("y = Relu(x)", x="float[N,3,H,H]", y="float[N,3,H,H]")
    model.graph.inputs[0].shape = ir.Shape([-1, 3, "?", "?"])
    shape = canonicalize(model).graph.inputs[0].shape
    assert shape[1] == 3
    assert all(shape[axis].value is None for axis in (0, 2, 3))


def test_a_wrong_output_shape_stops_nothing(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    model = build("a = Cast<to=1>(x) b = Add(a, c) y = Relu(b)", {"c": np.float32([0])}, y="float[7]")
    with caplog.at_level(logging.WARNING):
        result = canonicalize(model)
    assert caplog.records == []
    assert [node.op_type for node in result.graph] == ["Relu"]


def test_dead_nodes_and_weights_go(build: Build) -> None:
    model = build("a = Mul(x, w) y = Relu(x)", {"w": np.float32([2])})
    result = canonicalize(model)
    assert [node.op_type for node in result.graph] == ["Relu"]
    assert list(result.graph.initializers) == []


def test_a_block_of_pp_ocr_v4_becomes_three_nodes(build: Build, judge: Judge) -> None:
    """Learnable affine blocks around a HardSwish that is spelt out: all of them fold into the convolutions."""
    body = """
        a = Conv<pads=[1,1,1,1], group=3>(x, w, b) m = Mul(s1, a) n = Add(m, t1)
        p = Add(n, three) c = Clip(p, zero, six0) k = Mul(n, c) h = Div(k, six)
        u = Mul(s2, h) v = Add(u, t2) y = Conv(v, q, r)
    """
    random = np.random.default_rng(0)
    numbers = {"s1": 1.4, "t1": 0.6, "s2": 0.2, "t2": -0.3, "three": 3, "six": 6}
    constants: dict[str, Any] = {name: np.float32([value]) for name, value in numbers.items()}
    constants |= {"zero": np.float32(0), "six0": np.float32(6)}
    constants |= {"w": random.standard_normal((3, 1, 3, 3)).astype(np.float32), "b": np.float32([1, 2, 3])}
    constants |= {"q": random.standard_normal((5, 3, 1, 1)).astype(np.float32), "r": np.ones(5, np.float32)}
    model = build(body, constants, opset=12)
    result = canonicalize(model)
    assert [node.op_type for node in result.graph] == ["Conv", "HardSwish", "Conv"]
    assert set(result.graph.initializers) == {"w", "b", "q", "r"}
    x = random.standard_normal((2, 3, 6, 7)).astype(np.float32)
    np.testing.assert_allclose(judge(result, x), judge(model, x), rtol=1e-5, atol=1e-5)


def test_an_opset_that_cannot_be_raised_is_told(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no adapter for Odd\nmore lines")

    monkeypatch.setattr(onnx.version_converter, "convert_version", refuse)
    with pytest.raises(ModelError, match=r"^the model's opset 12 can't be raised to 20: no adapter for Odd$"):
        canonicalize(build("y = Relu(x)", opset=12))


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


FIRST = {"s": ints(0), "e": ints(1), "z": ints(0)}


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("a = Conv(x, w) y = Slice(a, s, e, z)", {"w": np.ones((2, 3, 9, 9), np.float32)}),
        ("a = MaxPool<kernel_shape=[9,9]>(x) y = Slice(a, s, e, z)", {}),
        ("a = Pad(x, p) y = Slice(a, s, e, z)", {"p": ints(0, -9, 0, 0, 0, 0, 0, 0)}),
        ("a = Slice(x, s, e, z) b = MaxPool<kernel_shape=[9,9]>(a) y = Slice(b, s, e, z)", {}),
        (
            "t = Tile(x, p) a = MaxPool<kernel_shape=[9,9]>(x) b = Slice(a, s, e, z) y = Concat<axis=0>(t, b)",
            {"p": ints(2)},
        ),
    ],
    ids=["conv", "pool", "pad", "behind another", "beside what can't be inferred"],
)
def test_a_size_below_zero_is_told_and_ends_no_process(build: Build, body: str, constants: dict[str, Any]) -> None:
    model = build(body, FIRST | constants, opset=17, x="float[1,3,4,4]")
    code = """
import sys, onnx_ir as ir
from ocrslim.errors import ModelError
from ocrslim.graph.passes.canonical import canonicalize
try:
    canonicalize(ir.from_proto(__import__("onnx").load_from_string(sys.stdin.buffer.read())))
except ModelError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=ir.to_proto(model).SerializeToString(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert b"makes a size below zero: the model can't run" in done.stdout
    assert done.stderr == b""


def test_slices_of_sound_values_are_inferred_and_folded_as_ever(build: Build) -> None:
    body = "a = Slice(x, s, e, z) b = Slice(a, s, e, z) c = MaxPool<kernel_shape=[2,2]>(b) y = Slice(c, s, e, z)"
    result = canonicalize(build(body, FIRST, x="float[4,3,4,4]"))
    assert [node.op_type for node in result.graph] == ["Slice", "Slice", "MaxPool", "Slice"]
    assert {node.domain for node in result.graph} == {""}
    assert result.graph.outputs[0].shape == ir.Shape([1, 3, 3, 3])
    assert set(result.graph.opset_imports) == {""}


def test_more_slices_than_are_looked_at_are_no_error(build: Build) -> None:
    body = " ".join(f"a{n + 1} = Slice(a{n}, s, e, z)" for n in range(120))
    result = canonicalize(build(f"a0 = Relu(x) {body} y = Relu(a120)", FIRST, x="float[4,3,4,4]"))
    assert len(result.graph) == 122


def test_what_cannot_be_inferred_is_nothing_to_see(build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    canonicalize(build("a = Tile(x, p) y = Relu(a)", {"p": ints(2)}, x="float[1,3,4,4]"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("body", ["k = Range(start, end, step)", "k = Tile(one, many)", "k = Expand(one, many)"])
def test_a_vector_that_inference_would_never_get_through_is_refused(build: Build, body: str) -> None:
    given = {"start": np.int64(0), "end": np.int64(4294901763), "step": np.int64(1)}
    given |= {"one": np.int64([1]), "many": np.int64([4294901763])}
    used = {name: value for name, value in given.items() if name in body}
    model = build(f"{body} l = Cast<to=1>(k) m = ReduceMax<keepdims=0>(l) y = Mul(x, m)", used)
    with pytest.raises(ModelError, match="a vector of 4294901763 numbers"):
        canonicalize(model)
