from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from ocrslim.graph.passes.affine import FoldAffineBackward, FoldAffineForward
from ocrslim.graph.passes.base import Pass

Build = Callable[..., ir.Model]
Judge = Callable[[ir.Model, Any], Any]


def w(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def statistics(channels: int) -> dict[str, np.ndarray]:
    return {"g": w(channels), "h": w(channels, 1).ravel(), "m": w(1, channels).ravel(), "v": np.abs(w(channels)) + 0.5}


def folded(step: Pass, model: ir.Model, judge: Judge, shape: tuple[int, ...]) -> Counter[str]:
    """Run the pass, check that it says so, that outputs stay and that it settles; return what is left."""
    before = model.clone()
    common.ShapeInferencePass()(model)
    assert step(model).modified
    common.RemoveUnusedNodesPass()(model)
    assert not step(model).modified
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(judge(model, x), judge(before, x), rtol=1e-4, atol=2e-5)
    assert [value.name for value in model.graph.outputs] == ["y"]
    return Counter(node.op_type for node in model.graph)


class TestBackward:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("group", [1, 3])
    @pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "VALID"])
    def test_rule_1_batch_normalisation(
        self, build: Build, judge: Judge, bias: bool, group: int, auto_pad: str
    ) -> None:
        constants = {"w": w(6, 3 // group, 3, 3), "b": w(6)} | statistics(6)
        inputs = "x, w, b" if bias else "x, w"
        conv = f"Conv<group={group}, auto_pad='{auto_pad}'>({inputs})"
        body = f"a = {conv} y = BatchNormalization<epsilon=0.01>(a, g, h, m, v)"
        assert folded(FoldAffineBackward(), build(body, constants), judge, (2, 3, 6, 7)) == {"Conv": 1}

    @pytest.mark.parametrize("group", [1, 2])
    def test_rule_1_after_a_transposed_convolution_and_its_bias(self, build: Build, judge: Judge, group: int) -> None:
        constants = {"w": w(4, 3, 2, 2), "c": w(1, 3 * group, 1, 1)} | statistics(3 * group)
        body = (
            f"a = ConvTranspose<strides=[2,2], group={group}>(x, w) b = Add(a, c) y = BatchNormalization(b, g, h, m, v)"
        )
        model = build(body, constants, x="float[N,4,H,W]")
        assert folded(FoldAffineBackward(), model, judge, (2, 4, 3, 5)) == {"ConvTranspose": 1}

    @pytest.mark.parametrize(
        ("tail", "constant"),
        [
            ("y = Mul(a, c)", np.float32([1.5])),
            ("y = Mul(c, a)", w(4, 1, 1)),
            ("y = Add(c, a)", np.float32(-0.5)),
            ("y = Add(a, c)", w(1, 4, 1, 1)),
            ("y = Sub(a, c)", w(1, 4, 1, 1)),
            ("y = Div(a, c)", w(1, 4, 1, 1)),
            ("b = Mul(a, c) d = Add(b, c) y = Mul(d, c)", w(1, 4, 1, 1)),
        ],
    )
    def test_rule_2_elementwise(self, build: Build, judge: Judge, tail: str, constant: Any) -> None:
        model = build(f"a = Conv<pads=[1,1,1,1]>(x, w) {tail}", {"w": w(4, 3, 3, 3), "c": constant})
        assert folded(FoldAffineBackward(), model, judge, (2, 3, 5, 6)) == {"Conv": 1}

    def test_a_squeeze_is_looked_through(self, build: Build, judge: Judge) -> None:
        constants = {"w": w(4, 3, 1, 5), "a2": np.array([2], np.int64), "c": w(4, 1)} | statistics(4)
        body = "a = Conv(x, w) s = Squeeze(a, a2) b = BatchNormalization(s, g, h, m, v) y = Mul(b, c)"
        model = build(body, constants, x="float[N,3,1,W]")
        assert folded(FoldAffineBackward(), model, judge, (2, 3, 1, 9)) == {"Conv": 1, "Squeeze": 1}

    def test_the_value_behind_keeps_its_name_and_the_convolution_its_own(self, build: Build) -> None:
        model = build("a = Conv(x, w) b = Add(a, c) y = Relu(b)", {"w": w(4, 3, 1, 1), "c": w(1, 4, 1, 1)})
        FoldAffineBackward()(model)
        conv = next(iter(model.graph))
        assert (conv.name, conv.outputs[0].name) == ("Conv_0", "b")
        assert conv.inputs[1].name == "w"
        assert conv.inputs[2].name == "Conv_0.bias"

    def test_a_shared_weight_is_not_changed_for_the_other(self, build: Build, judge: Judge) -> None:
        model = build(
            "a = Conv(x, w) b = Mul(a, c) d = Conv(x, w) y = Add(b, d)", {"w": w(4, 3, 1, 1), "c": w(4, 1, 1)}
        )
        assert folded(FoldAffineBackward(), model, judge, (1, 3, 4, 4)) == {"Conv": 2, "Add": 1}
        assert len(model.graph.initializers) == 2

    @pytest.mark.parametrize(
        ("body", "constants"),
        [
            ("a = Conv(x, w) b = Mul(a, c) y = Add(a, b)", {"c": w(4, 1, 1)}),  # another reads the convolution
            ("a = Conv(x, w) y = Mul(a, c)", {"c": w(4, 6)}),  # along the last two axes
            ("a = Conv(x, w) y = Mul(a, c)", {"c": w(2, 1, 1, 1)}),  # along the batch
            ("a = Conv(x, w) y = Mul(a, c)", {"c": w(1, 1, 1, 1, 1)}),  # makes a fifth axis
            ("a = Conv(x, w) y = Mul(a, a)", {"c": w(1)}),  # not constant
            ("a = Conv(x, w) y = Div(c, a)", {"c": w(1)}),  # not affine
            ("a = Conv(x, w) r = Relu(a) y = Mul(r, c)", {"c": w(1)}),
            ("v = Relu(w) a = Conv(x, v) y = Mul(a, c)", {"c": w(1)}),  # the weight is computed
        ],
    )
    def test_keeps(self, build: Build, body: str, constants: dict[str, Any]) -> None:
        model = build(body, {"w": w(4, 3, 1, 1)} | constants)
        common.ShapeInferencePass()(model)
        assert not FoldAffineBackward()(model).modified


class TestForward:
    @pytest.mark.parametrize("group", [1, 2, 4])
    @pytest.mark.parametrize("constant", [np.float32([1.5]), w(4, 1, 1), w(1, 4, 1, 1)], ids=["one", "three", "four"])
    def test_rules_1_and_2_without_padding(self, build: Build, judge: Judge, group: int, constant: Any) -> None:
        constants = {"w": w(8, 4 // group, 3, 3), "b": w(8), "c": constant}
        body = f"a = HardSwish(x) s = Mul(c, a) t = Sub(s, c) y = Conv<group={group}>(t, w, b)"
        model = build(body, constants, x="float[N,4,H,W]")
        assert folded(FoldAffineForward(), model, judge, (2, 4, 5, 6)) == {"HardSwish": 1, "Conv": 1}

    @pytest.mark.parametrize("pads", ["pads=[1,1,1,1]", "auto_pad='SAME_UPPER'"])
    def test_rule_1_with_padding(self, build: Build, judge: Judge, pads: str) -> None:
        body = f"a = HardSwish(x) s = Div(a, c) y = Conv<{pads}>(s, w)"
        model = build(body, {"w": w(4, 3, 3, 3), "c": w(3, 1, 1)})
        assert folded(FoldAffineForward(), model, judge, (2, 3, 5, 6)) == {"HardSwish": 1, "Conv": 1}
        assert len(next(node for node in model.graph if node.op_type == "Conv").inputs) == 2

    @pytest.mark.parametrize("pads", ["pads=[0,0,0,1]", "auto_pad='SAME_UPPER'"])
    def test_rule_2_is_not_for_padded_borders(self, build: Build, pads: str) -> None:
        model = build(f"a = Add(x, c) y = Conv<{pads}>(a, w)", {"w": w(4, 3, 3, 3), "c": np.float32(1)})
        assert not FoldAffineForward()(model).modified

    def test_keeps_what_another_node_reads(self, build: Build) -> None:
        model = build("a = Mul(x, c) b = Conv(a, w) y = Add(a, b)", {"w": w(3, 3, 1, 1), "c": np.float32(2)})
        assert not FoldAffineForward()(model).modified

    def test_the_graphs_input_may_be_what_is_left(self, build: Build, judge: Judge) -> None:
        model = build("a = Mul(x, c) y = Conv(a, w)", {"w": w(4, 3, 1, 1), "c": np.float32(1 / 255)})
        assert folded(FoldAffineForward(), model, judge, (1, 3, 4, 4)) == {"Conv": 1}
