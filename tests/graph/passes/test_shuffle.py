"""Upsampling as a shuffle gives what the transposed convolution gave, where its windows don't overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.passes.shuffle import MOST_CHANNELS, ShuffleUpsampling, UnshuffleUpsampling

Build = Callable[..., ir.Model]
Judge = Callable[[ir.Model, Any], Any]


def weights(inputs: int, outputs: int, size: int) -> dict[str, Any]:
    rng = np.random.default_rng(inputs + outputs + size)
    shape = (inputs, outputs, size, size)
    return {"w": rng.normal(size=shape).astype(np.float32), "b": rng.normal(size=outputs).astype(np.float32)}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("outputs", [1, 3, MOST_CHANNELS])
@pytest.mark.parametrize("arguments", ["x, w", "x, w, b"])
def test_the_same_answers(build: Build, judge: Judge, size: int, outputs: int, arguments: str) -> None:
    body = f"c = ConvTranspose<strides=[{size}, {size}], pads=[0, 0, 0, 0], group=1>({arguments}) y = Sigmoid(c)"
    model = build(body, weights(3, outputs, size))
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 7)).astype(np.float32)
    before = judge(model.clone(), image)
    assert ShuffleUpsampling()(model).modified
    assert Counter(node.op_type for node in model.graph) == {"Conv": 1, "DepthToSpace": 1, "Sigmoid": 1}
    np.testing.assert_allclose(judge(model, image), before, rtol=1e-5, atol=1e-6)
    names = [(node.name, node.outputs[0].name) for node in model.graph]
    assert names == [
        ("ConvTranspose_0", "c_before_shuffle"),
        ("ConvTranspose_0_shuffle", "c"),
        ("Sigmoid_1", "y"),
    ]
    assert not ShuffleUpsampling()(model).modified


@pytest.mark.parametrize(
    ("attributes", "inputs", "outputs", "size"),
    [
        ("strides=[2, 2]", 4, MOST_CHANNELS + 1, 2),
        ("strides=[2, 2]", 4, 1, 3),
        ("strides=[2, 2], pads=[1, 1, 1, 1]", 4, 1, 2),
        ("strides=[2, 2], output_padding=[1, 1]", 4, 1, 2),
        ("strides=[2, 2], dilations=[2, 2]", 4, 1, 2),
        ("strides=[2, 2], output_shape=[8, 12]", 4, 1, 2),
        ("strides=[2, 2], auto_pad='SAME_UPPER'", 4, 1, 2),
        ("strides=[2, 2], group=2", 4, 1, 2),
        ("strides=[2, 1]", 4, 1, 2),
        ("", 4, 1, 2),
    ],
)
def test_what_it_leaves(build: Build, attributes: str, inputs: int, outputs: int, size: int) -> None:
    said = f"<{attributes}>" if attributes else ""
    model = build(f"y = ConvTranspose{said}(x, w, b)", weights(inputs, outputs, size))
    assert not ShuffleUpsampling()(model).modified
    assert [node.op_type for node in model.graph] == ["ConvTranspose"]


def test_an_output_of_the_graph_keeps_its_name(build: Build, judge: Judge) -> None:
    model = build("y = ConvTranspose<strides=[2, 2]>(x, w)", weights(3, 1, 2))
    image = np.random.default_rng(1).normal(size=(1, 3, 2, 2)).astype(np.float32)
    before = judge(model.clone(), image)
    assert ShuffleUpsampling()(model).modified
    assert model.graph.outputs[0].name == "y"
    np.testing.assert_allclose(judge(model, image), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("outputs", [1, MOST_CHANNELS])
@pytest.mark.parametrize("arguments", ["x, w", "x, w, b"])
def test_it_can_be_undone(build: Build, size: int, outputs: int, arguments: str) -> None:
    body = f"c = ConvTranspose<strides=[{size}, {size}], kernel_shape=[{size}, {size}]>({arguments}) y = Sigmoid(c)"
    model = build(body, weights(3, outputs, size))
    twin = model.clone()
    assert ShuffleUpsampling()(model).modified
    assert UnshuffleUpsampling()(model).modified
    assert not UnshuffleUpsampling()(model).modified
    names = [(node.op_type, node.name, node.outputs[0].name) for node in model.graph]
    assert names == [(node.op_type, node.name, node.outputs[0].name) for node in twin.graph]
    for before, after in zip(twin.graph.node(0).inputs[1:], model.graph.node(0).inputs[1:], strict=True):
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before.const_value.numpy(), after.const_value.numpy())


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w, uneven) y = DepthToSpace<blocksize=2, mode='CRD'>(c)",
        "c = Conv(x, w) y = DepthToSpace<blocksize=2, mode='DCR'>(c)",
        "c = Conv(x, w) y = DepthToSpace<blocksize=2>(c)",
        "c = Conv<strides=[2, 2]>(x, w) y = DepthToSpace<blocksize=2, mode='CRD'>(c)",
        "c = Conv<pads=[1, 1, 1, 1]>(x, w) y = DepthToSpace<blocksize=2, mode='CRD'>(c)",
        "c = Conv(x, w) d = DepthToSpace<blocksize=2, mode='CRD'>(c) e = Sigmoid(c) y = Mul(e, e)",
        "c = Conv(x, many) y = DepthToSpace<blocksize=2, mode='CRD'>(c)",
        "y = DepthToSpace<blocksize=1, mode='CRD'>(x)",
    ],
)
def test_what_is_no_such_shuffle_stays(build: Build, body: str) -> None:
    rng = np.random.default_rng(0)
    given = {
        "w": rng.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "many": rng.normal(size=(4 * MOST_CHANNELS + 4, 3, 1, 1)).astype(np.float32),
        "uneven": np.arange(4, dtype=np.float32),
    }
    model = build(body, {name: array for name, array in given.items() if f"{name}" in body.replace("Conv", "")})
    assert not UnshuffleUpsampling()(model).modified


def test_a_shuffled_detector_is_canonical_as_the_original(zoo: Callable[[str], Any]) -> None:
    whole = canonicalize(load_onnx(zoo("PP-OCRv4_mobile_det")))
    shuffled = whole.clone()
    assert ShuffleUpsampling()(shuffled).modified
    again = canonicalize(shuffled)
    assert [(n.op_type, n.name) for n in again.graph] == [(n.op_type, n.name) for n in whole.graph]
    assert {*again.graph.initializers} == {*whole.graph.initializers}
    for name, value in whole.graph.initializers.items():
        np.testing.assert_array_equal(again.graph.initializers[name].const_value.numpy(), value.const_value.numpy())
