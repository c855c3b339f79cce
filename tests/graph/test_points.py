from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ocrslim.errors import ModelError
from ocrslim.graph.points import distillation_points, layer_points

Build = Callable[..., ir.Model]


def w(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


WEIGHTS: dict[str, Any] = {
    "w3": w(4, 3, 3, 3),
    "w4": w(4, 4, 3, 3),
    "l": w(4, 7),
    "b": w(7),
    "a": np.array([2], np.int64),
}


def test_a_recogniser(build: Build) -> None:
    body = """
        stem = Conv<strides=[2,2]>(x, w3) one = Conv<strides=[2,1]>(stem, w4) two = Conv(one, w4)
        three = MaxPool<kernel_shape=[2,2], strides=[2,2]>(two) both = Concat<axis=1>(three, three)
        half = Conv(both, w8) s = Squeeze(half, a) t = Transpose<perm=[0,2,1]>(s)
        m = MatMul(t, l) n = Add(m, b) y = Softmax<axis=-1>(n)
    """
    points = distillation_points(build(body, WEIGHTS | {"w8": w(4, 8, 1, 1)}))
    assert points.logits == "n"
    assert points.features == ("t", "two", "stem")


def test_a_detector(build: Build) -> None:
    body = """
        stem = Conv<strides=[2,2]>(x, w3) c2 = Conv(stem, w4) c3 = Conv<strides=[2,2]>(c2, w4)
        c4 = Conv<strides=[2,2]>(c3, w4) c5 = Conv<strides=[2,2]>(c4, w4) c6 = Conv<strides=[2,2]>(c5, w4)
        early = Concat<axis=1>(c6, c6) f = Conv(early, w8) fused = Concat<axis=1>(f, f) z = Conv(fused, w8)
        y = Sigmoid(z)
    """
    points = distillation_points(build(body, WEIGHTS | {"w8": w(4, 8, 1, 1)}))
    assert points.logits == "z"
    assert points.features == ("fused", "c5", "c4", "c3")


def test_layers_behind_the_first_feature(build: Build) -> None:
    """Convolutions of all channels alone, from there on where the first stage ends."""
    body = """
        stem = Conv<strides=[2,2]>(x, w3) one = Conv<strides=[2,1]>(stem, w4) two = Conv(one, w4)
        deep = Conv<group=4>(two, d4) three = Conv(deep, w4) s = Squeeze(three, a) t = Transpose<perm=[0,2,1]>(s)
        m = MatMul(t, l) n = Add(m, b) y = Softmax<axis=-1>(n)
    """
    model = build(body, WEIGHTS | {"d4": w(4, 1, 3, 3)})
    assert distillation_points(model).features == ("t", "stem")
    assert layer_points(model) == ("t", "stem", "one", "two", "three")


def test_without_a_final_activation_the_output_is_the_logits(build: Build) -> None:
    points = distillation_points(build("r = Relu(x) y = MatMul(r, l)", WEIGHTS, x="float[N,4]"))
    assert points.logits == "y"
    assert points.features == ("r",)


def test_a_product_of_two_activations_is_no_linear_layer(build: Build) -> None:
    body = "k = Transpose(x) q = MatMul(x, k) y = Softmax(q)"
    assert distillation_points(build(body, x="float[4,4]")).features == ()


def test_a_stage_that_is_also_the_first_feature_is_named_once(build: Build) -> None:
    body = "f = Concat<axis=1>(x, x) z = Conv<strides=[2,2]>(f, w6) y = Sigmoid(z)"
    assert distillation_points(build(body, {"w6": w(1, 6, 3, 3)})).features == ("f",)


def test_the_graphs_input_ends_no_stage(build: Build) -> None:
    body = "z = Conv<strides=[2,2]>(x, w3) y = Sigmoid(z)"
    assert distillation_points(build(body, WEIGHTS)).features == ()


def test_several_outputs_are_told(build: Build) -> None:
    model = build("a = Relu(x) y = Relu(a)")
    model.graph.outputs.append(next(iter(model.graph)).outputs[0])
    with pytest.raises(ModelError, match="the model has 2 outputs"):
        distillation_points(model)
