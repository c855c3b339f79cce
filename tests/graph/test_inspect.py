"""Counts that are known in closed form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ocrslim.graph.inspect import count_macs, describe, node_macs
from ocrslim.graph.passes.canonical import canonicalize

Build = Callable[..., ir.Model]


def w(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("body", "constants", "shape", "macs"),
    [
        ("y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w)", {"w": w(8, 3, 3, 3)}, (1, 3, 10, 12), 5 * 6 * 8 * 27),
        ("y = Conv<group=3>(x, w)", {"w": w(3, 1, 1, 5)}, (2, 3, 4, 9), 2 * 3 * 4 * 5 * 5),
        ("y = ConvTranspose<strides=[2,2]>(x, w)", {"w": w(3, 4, 2, 2)}, (1, 3, 5, 6), 3 * 5 * 6 * 4 * 4),
        (
            "a = ReduceMean<keepdims=0>(x, k) y = Gemm(a, w)",
            {"k": np.array([2, 3]), "w": w(3, 7)},
            (4, 3, 5, 6),
            4 * 21,
        ),
        ("y = MatMul(x, w)", {"w": w(6, 9)}, (1, 3, 5, 6), 3 * 5 * 6 * 9),
        ("t = Transpose<perm=[0,1,3,2]>(x) y = MatMul(x, t)", {}, (2, 3, 5, 6), 2 * 3 * 5 * 5 * 6),
        ("a = Mul(x, x) y = Relu(a)", {}, (1, 3, 5, 6), 0),
    ],
)
def test_multiply_accumulates(build: Build, body: str, constants: dict[str, Any], shape: Any, macs: int) -> None:
    assert count_macs(build(body, constants), shape) == macs


def test_what_follows_open_shapes_is_counted(build: Build) -> None:
    body = "s = Shape(x) h = Slice(s, b, e) t = Concat<axis=0>(h, m) f = Reshape(x, t) y = MatMul(f, w)"
    constants = {"b": np.array([0]), "e": np.array([2]), "m": np.array([-1]), "w": w(20, 7)}
    assert count_macs(build(body, constants), (2, 3, 4, 5)) == 2 * 3 * 20 * 7


def test_sizes_that_cannot_be_inferred_give_none(build: Build) -> None:
    body = "n = NonZero(x) f = Cast<to=1>(n) t = Transpose(f) y = MatMul(f, t)"
    assert count_macs(build(body), (1, 3, 4, 5)) is None


def test_each_product_has_its_own_multiplications(build: Build) -> None:
    model = build("a = MatMul(x, v) y = MatMul(a, w)", {"v": w(5, 7), "w": w(7, 2)})
    found = node_macs(model, (1, 3, 4, 5))
    assert found is not None
    assert list(found.values()) == [12 * 5 * 7, 12 * 7 * 2]
    assert sum(found.values()) == count_macs(model, (1, 3, 4, 5))
    assert len(set(found)) == 2


def test_facts_are_plain_and_the_model_is_not_touched(build: Build) -> None:
    body = """
        a = Conv<kernel_shape=[3,3]>(x, w, b) c = Conv<group=8, kernel_shape=[3,3]>(a, d) e = Conv(c, p)
        k = Constant<value=float[2]{1.0, 2.0}>() y = ConvTranspose(e, t)
    """
    model = build(body, {"w": w(8, 3, 3, 3), "b": w(8), "d": w(8, 1, 3, 3), "p": w(4, 8, 1, 1), "t": w(4, 1, 2, 2)})
    model.metadata_props["character"] = "a"
    canonicalize(model)  # gives the constant's tensor the name of its value, which is all that may happen
    before = ir.to_proto(model).SerializeToString()
    facts = describe(model, (1, 3, 16, 16))
    assert ir.to_proto(model).SerializeToString() == before
    assert json.loads(json.dumps(facts)) == facts
    assert facts["opset"] == 20
    assert facts["nodes"] == 4
    assert facts["operators"] == {"Conv": 3, "ConvTranspose": 1}
    assert facts["convolutions"] == {"full": 1, "pointwise": 1, "depthwise": 1, "transposed": 1}
    assert facts["parameters"] == 8 * 27 + 8 + 72 + 32 + 16 + 2
    assert facts["inputs"] == [{"name": "x", "shape": ["N", 3, "H", "W"]}]
    assert facts["outputs"][0]["name"] == "y"
    assert facts["metadata"] == ["character"]
    assert facts["shape"] == [1, 3, 16, 16]
    assert facts["macs"] == 14 * 14 * 8 * 27 + 12 * 12 * 8 * 9 + 12 * 12 * 32 + 4 * 12 * 12 * 4


def test_integers_of_shapes_are_no_parameters_but_quantized_weights_are(build: Build) -> None:
    body = "d = DequantizeLinear(q, s, z) m = MatMul(x, d) y = Reshape(m, r)"
    constants = {"q": np.ones((4, 5), np.int8), "s": np.float32(1), "z": np.int8(0), "r": np.array([0, -1])}
    facts = describe(build(body, constants, x="float[N,3,H,4]"), (1, 3, 2, 4))
    assert facts["parameters"] == 20 + 1 + 1
    assert facts["macs"] == 3 * 2 * 4 * 5


def test_a_shape_that_is_too_small_for_the_model_has_no_count(build: Build) -> None:
    body = "a = MaxPool<kernel_shape=[9,9]>(x) b = Conv(a, w) y = Slice(b, s, e, z)"
    model = build(body, {"w": w(4, 3, 1, 1), "s": np.array([0]), "e": np.array([1]), "z": np.array([0])})
    assert count_macs(model, (1, 3, 4, 4)) is None
    assert count_macs(model, (1, 3, 10, 10)) == 2 * 2 * 3 * 4


def test_texts_are_no_parameters(build: Build) -> None:
    model = build("y = Relu(x)", {"texts": np.array(["a", "b"], object)})
    assert describe(model)["parameters"] == 0


@pytest.mark.parametrize(
    ("x", "y", "shape"),
    [
        ("float[N,3,48,W]", "float[N,3,48,W]", [1, 3, 48, 320]),
        ("float[N,3,32,W]", "float[N,3,32,W]", [1, 3, 32, 320]),
        ("float[N,3,H,W]", "float[N,3,H,W]", [1, 3, 640, 640]),
    ],
)
def test_the_usual_shape_of_the_task_is_the_default(build: Build, x: str, y: str, shape: list[int]) -> None:
    assert describe(build("y = Relu(x)", x=x, y=y))["shape"] == shape
