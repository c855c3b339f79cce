from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from ocrslim.graph.passes.base import Pass
from ocrslim.graph.passes.fuse import FuseGelu, FuseHardSwish, FuseLayerNormalization

Build = Callable[..., ir.Model]
Judge = Callable[[ir.Model, Any], Any]

NUMBERS = {
    "three": np.float32(3),
    "zero": np.float32(0),
    "six": np.float32([6]),
    "sixth": np.float32(1 / 6),
    "root": np.float32(2**0.5),
    "unroot": np.float32(0.5**0.5),
    "one": np.float32(1),
    "half": np.float32([0.5]),
    "two": np.float32(2),
    "eps": np.float32(1e-5),
    "g": np.float32([1, 2, 3, 4]),
    "h": np.float32([4, 3, 2, 1]),
    "last": np.array([-1], np.int64),
    "third": np.array([2], np.int64),
}


def run(step: Pass, model: ir.Model) -> tuple[bool, Counter[str]]:
    common.ShapeInferencePass()(model)
    modified = step(model).modified
    common.RemoveUnusedNodesPass()(model)
    return modified, Counter(node.op_type for node in model.graph)


def check(step: Pass, model: ir.Model, judge: Judge, fused: str, shape: tuple[int, ...]) -> ir.Node:
    before = model.clone()
    last = list(model.graph)[-1]
    name = last.name
    modified, operators = run(step, model)
    assert modified
    assert operators == {fused: 1}
    assert run(step, model) == (False, operators)
    x = (np.random.default_rng(0).standard_normal(shape) * 4).astype(np.float32)
    np.testing.assert_allclose(judge(model, x), judge(before, x), atol=2e-6)
    node = next(iter(model.graph))
    assert node.name == name
    assert node.outputs[0].name == "y"
    return node


HARD_SWISH = [
    "a = Add(x, three) c = Clip(a, zero, six1) m = Mul(x, c) y = Div(m, six)",
    "a = Add(three, x) c = Clip(a, zero, six1) m = Mul(c, x) y = Mul(m, sixth)",
    "a = Add(x, three) c = Clip(a, zero, six1) m = Mul(x, c) y = Mul(sixth, m)",
    "a = Add(x, three) c = Clip(a, zero, six1) d = Div(c, six) y = Mul(x, d)",
    "a = Add(x, three) c = Clip(a, zero, six1) d = Div(c, six) y = Mul(d, x)",
    "s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(s, x)",
]


@pytest.mark.parametrize("body", HARD_SWISH)
def test_hard_swish(build: Build, judge: Judge, body: str) -> None:
    model = build(body, NUMBERS | {"six1": np.float32(6)})
    node = check(FuseHardSwish(), model, judge, "HardSwish", (2, 3, 4, 5))
    assert [value.name for value in node.inputs] == ["x"]


@pytest.mark.parametrize(
    "body",
    [
        "s = HardSigmoid<alpha=0.2, beta=0.5>(x) y = Mul(s, x)",
        "s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) r = Relu(x) y = Mul(s, r)",
        "a = Add(x, one) c = Clip(a, zero, six1) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, one, six1) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six1) m = Mul(x, c) y = Div(m, three)",
        "a = Add(x, three) c = Clip(a, zero, six1) m = Mul(a, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six1) m = Mul(x, c) d = Div(m, six) y = Add(m, d)",
    ],
)
def test_not_hard_swish(build: Build, body: str) -> None:
    model = build(body, NUMBERS | {"six1": np.float32(6)})
    before = Counter(node.op_type for node in model.graph)
    assert run(FuseHardSwish(), model) == (False, before)


GELU = [
    "d = Div(x, root) e = Erf(d) g1 = Add(e, one) m = Mul(x, g1) y = Mul(m, half)",
    "d = Mul(unroot, x) e = Erf(d) g1 = Add(one, e) m = Mul(g1, x) y = Mul(half, m)",
    "d = Div(x, root) e = Erf(d) g1 = Add(e, one) m = Mul(g1, half) y = Mul(x, m)",
    "d = Div(x, root) e = Erf(d) g1 = Add(e, one) m = Mul(x, half) y = Mul(m, g1)",
]


@pytest.mark.parametrize("body", GELU)
def test_gelu(build: Build, judge: Judge, body: str) -> None:
    node = check(FuseGelu(), build(body, NUMBERS), judge, "Gelu", (2, 3, 4, 5))
    assert "approximate" not in node.attributes


@pytest.mark.parametrize(
    "body",
    [
        "d = Div(x, two) e = Erf(d) g1 = Add(e, one) m = Mul(x, g1) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) g1 = Add(e, two) m = Mul(x, g1) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) g1 = Add(e, one) m = Mul(x, g1) y = Mul(m, two)",
        "d = Div(x, root) e = Erf(d) g1 = Add(e, one) m = Mul(d, g1) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) g1 = Add(e, one) m = Mul(x, g1) n = Mul(m, half) y = Add(n, g1)",
    ],
)
def test_not_gelu(build: Build, body: str) -> None:
    model = build(body, NUMBERS)
    before = Counter(node.op_type for node in model.graph)
    assert run(FuseGelu(), model) == (False, before)


def test_gelu_waits_for_its_opset(build: Build) -> None:
    assert not run(FuseGelu(), build(GELU[0], NUMBERS, opset=19))[0]


LAYER_NORM = (
    "m = ReduceMean(x, {axis}) d = Sub(x, m) q = {square} v = ReduceMean(q, {axis}) e = Add(v, eps)"
    " s = Sqrt(e) n = Div(d, s) k = Mul(n, g) y = Add(k, h)"
)


@pytest.mark.parametrize("axis", ["last", "third"])
@pytest.mark.parametrize("square", ["Pow(d, two)", "Mul(d, d)"])
def test_layer_normalization(build: Build, judge: Judge, axis: str, square: str) -> None:
    model = build(LAYER_NORM.format(axis=axis, square=square), NUMBERS, x="float[N,T,4]")
    node = check(FuseLayerNormalization(), model, judge, "LayerNormalization", (2, 5, 4))
    assert [value.name for value in node.inputs] == ["x", "g", "h"]
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-5)
    assert node.attributes["axis"].as_int() == -1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Pow(d, two)", "Pow(d, three)"),
        ("Pow(d, two)", "Mul(d, x)"),
        ("d = Sub(x, m)", "d = Sub(m, x)"),
        ("s = Sqrt(e)", "s = Exp(e)"),
        ("k = Mul(n, g)", "k = Mul(n, x)"),
        ("y = Add(k, h)", "y = Mul(k, h)"),
        ("y = Add(k, h)", "z = Add(k, h) y = Add(z, n)"),
        ("m = ReduceMean(x, last)", "m = ReduceMean(x, middle)"),
    ],
)
def test_not_layer_normalization(build: Build, old: str, new: str) -> None:
    body = LAYER_NORM.format(axis="last", square="Pow(d, two)")
    assert old in body
    constants = NUMBERS | {"middle": np.array([1], np.int64)}
    model = build(body.replace(old, new), constants, x="float[N,T,4]")
    before = Counter(node.op_type for node in model.graph)
    assert run(FuseLayerNormalization(), model) == (False, before)
