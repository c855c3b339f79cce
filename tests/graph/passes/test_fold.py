from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from ocrslim.graph.passes.base import Pass, array_of
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.passes.fold import DropNoOps, FoldConstants, FoldShapes

Build = Callable[..., ir.Model]
Judge = Callable[[ir.Model, Any], Any]


def apply(step: Pass, model: ir.Model) -> bool:
    """Infer shapes, run one pass and drop what nothing reads."""
    common.ShapeInferencePass()(model)
    modified = step(model).modified
    common.RemoveUnusedNodesPass()(model)
    return modified


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def i(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def same(judge: Judge, before: ir.Model, after: ir.Model, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(judge(after, x), judge(before, x), rtol=1e-6, atol=1e-6)


class TestFoldConstants:
    def test_rule_1_computes_chains_over_rounds(self, build: Build, judge: Judge) -> None:
        model = build("a = Add(c, c) b = Mul(a, c) y = Mul(x, b)", {"c": np.float32([1, 2, 3]).reshape(3, 1, 1)})
        before = model.clone()
        assert apply(FoldConstants(), model)
        assert operators(model) == {"Mul": 1}
        np.testing.assert_array_equal(array_of(model.graph.initializers["b"]).ravel(), [2, 8, 18])
        assert not apply(FoldConstants(), model)
        same(judge, before, model, (2, 3, 2, 2))

    @pytest.mark.parametrize(
        ("node", "constant"),
        [
            ("b = ConstantOfShape(s)", i(1 << 20, 1 << 20)),
            ("b = Expand(o, s)", i(1 << 20, 1 << 20)),
            ("b = Tile(o, s)", i(1 << 40)),
            ("b = Range(o, t, u)", i(0)),
            ("b = Pad(o, s)", i(1 << 40, 0)),
        ],
    )
    def test_rule_1_makes_nothing_huge(self, build: Build, node: str, constant: np.ndarray) -> None:
        ones = np.float32(1) if "Range" in node else np.ones(1, np.float32)
        values = {"s": constant, "o": ones, "t": np.float32(1e12), "u": np.float32(1e-3)}
        used = {name: value for name, value in values.items() if name in node.split("(")[1]}
        model = build(f"{node} y = Add(x, b)", used, x="float[N]")
        assert not FoldConstants()(model).modified
        assert node.split()[2].split("(")[0] in operators(model)

    @pytest.mark.parametrize(
        ("node", "constants"),
        [
            ("b = Mul(c, d)", {"c": ones(8192, 1), "d": ones(1, 8192)}),
            ("b = Where(e, c, d)", {"c": ones(8192, 1), "d": ones(1, 8192), "e": np.ones((1, 1), np.bool_)}),
            ("b = MatMul(c, d)", {"c": ones(8192, 1), "d": ones(1, 8192)}),
            ("b = Gemm(c, d)", {"c": ones(8192, 1), "d": ones(1, 8192)}),
            ("b = Einsum<equation='i,j->ij'>(c, d)", {"c": ones(8192), "d": ones(8192)}),
            ("b = Expand(c, s)", {"c": ones(8192, 1), "s": i(1, 8192)}),
            ("b = Pad(c, s)", {"c": ones(8192, 1), "s": i(0, 0, 0, 8191)}),
            ("b = Tile(c, s)", {"c": ones(8192), "s": i(8192)}),
            ("b = Gather(c, s)", {"c": ones(2, 8192), "s": np.zeros(8192, np.int64)}),
            ("b = OneHot(s, d, c)", {"c": np.float32([0, 1]), "d": i(8192), "s": np.zeros(8192, np.int64)}),
            ("b = Resize(c, , s)", {"c": ones(1, 1, 8, 8), "s": np.float32([1, 1, 1024, 1024])}),
            ("b = Pad<pads=[0,8191],mode='constant'>(c)", {"c": ones(8192)}),
        ],
        ids=lambda value: value.split()[2].split("(")[0].split("<")[0] if isinstance(value, str) else "",
    )
    def test_rule_1_makes_no_product_of_its_operands(self, build: Build, node: str, constants: dict[str, Any]) -> None:
        model = build(f"{node} y = Add(x, b)", constants, 10 if "pads=" in node else 20, x="float[N]")
        assert not FoldConstants()(model).modified
        assert len(model.graph) == 2

    def test_rule_1_stops_what_doubles(self, build: Build) -> None:
        chain = " ".join(f"a{n + 1} = Concat<axis=0>(a{n}, a{n})" for n in range(30))
        model = build(f"{chain} y = Add(x, a30)", {"a0": ones(1 << 12)}, x="float[N]")
        FoldConstants()(model)
        assert 10 < operators(model)["Concat"] < 25, "4096 elements are doubled until 2 ** 24 are made"

    def test_rule_1_makes_no_more_in_many_nodes_than_in_one(self, build: Build) -> None:
        body = " ".join(f"a{n} = Mul(c, d)" for n in range(60))
        model = build(f"{body} y = Sum(x, {', '.join(f'a{n}' for n in range(60))})",
                      {"c": ones(1000, 1), "d": ones(1, 1000)}, x="float[N]")  # fmt: skip
        step = FoldConstants()
        step(model)
        left = operators(model)["Mul"]
        assert 45 < left < 60
        step(model)
        assert operators(model)["Mul"] == left, "another round makes no more"

    def test_rule_1_computes_what_is_as_large_as_the_files_own_weights(self, build: Build) -> None:
        weights = np.zeros((1 << 25,), np.float16)
        model = build("w = Cast<to=1>(c) y = Add(x, w)", {"c": weights}, x="float[N]")
        assert FoldConstants()(model).modified

    @pytest.mark.parametrize(
        ("node", "constants"),
        [
            ("b = Reshape(c, s)", {"c": ones(6), "s": i(4)}),
            ("b = Reshape(c, s)", {"c": ones(6), "s": i(-1, -1)}),
            ("b = Concat<axis=1>(c, d)", {"c": ones(2, 1), "d": ones(3, 1)}),
            ("b = Concat<axis=7>(c, c)", {"c": ones(2)}),
            ("b = Add(c, d)", {"c": ones(2), "d": ones(3)}),
            ("b = MatMul(c, d)", {"c": ones(2, 2), "d": ones(3, 3)}),
            ("b = MatMul(c, c)", {"c": ones()}),
            ("b = Gather(c, s)", {"c": ones(2), "s": i(99)}),
            ("b = Gather(c, s)", {"c": ones(0), "s": i(0)}),
            ("b = Expand(c, s)", {"c": ones(1), "s": i(-5)}),
            ("b = Expand(c, s)", {"c": ones(1), "s": i(1 << 62, 1 << 62)}),
            ("b = ConstantOfShape(s)", {"s": i(-5)}),
            ("b = Tile(c, s)", {"c": ones(1), "s": i(-1)}),
            ("b = Transpose<perm=[0,5]>(c)", {"c": ones(2, 2)}),
            ("b = Unsqueeze(c, s)", {"c": ones(2), "s": i(90)}),
            ("b = Slice(c, s, s, s)", {"c": ones(2), "s": i(3)}),
            ("t = Cast<to=8>(c) b = Cast<to=1>(t)", {"c": ones(2)}),
            ("r = Range(c, c, c) b = Cast<to=1>(r)", {"c": np.float32(0)}),
        ],
    )
    def test_rule_1_leaves_what_cannot_be_computed(
        self, build: Build, node: str, constants: dict[str, Any], capfd: pytest.CaptureFixture[str]
    ) -> None:
        model = build(f"{node} y = Add(x, b)", constants, x="float[N]")
        before = operators(model)
        assert not FoldConstants()(model).modified
        assert operators(model) == before
        assert capfd.readouterr().err == ""

    def test_rule_1_leaves_a_name_of_another_domain_alone(self, build: Build) -> None:
        model = build("b = Add(c, c) y = Mul(x, b)", {"c": np.float32([1])})
        next(iter(model.graph)).domain = "somebodys"
        assert not FoldConstants()(model).modified

    @pytest.mark.parametrize(
        ("node", "constants", "shape"),
        [
            ("b = Expand(c, s)", {"c": ones(1, 512, 1), "s": i(1, 1, 4)}, (1, 512, 4)),
            ("b = Gather(c, s)", {"c": ones(18000, 512), "s": i(3, 4)}, (2, 512)),
            ("b = Pad(c, s)", {"c": ones(2, 3), "s": i(0, 1, 0, 1)}, (2, 5)),
            ("b = Tile(c, s)", {"c": ones(2, 3), "s": i(2, 2)}, (4, 6)),
            ("b = MatMul(c, d)", {"c": ones(200, 300), "d": ones(300, 100)}, (200, 100)),
            ("b = Concat<axis=0>(c, c, c)", {"c": ones(2, 3)}, (6, 3)),
            ("b = Erf(c)", {"c": ones(2, 3)}, (2, 3)),
            ("b = Clip(c, , d)", {"c": ones(2, 3), "d": np.float32(0.5)}, (2, 3)),
            ("b = ScatterND(c, s, d)", {"c": ones(4), "s": i(1).reshape(1, 1), "d": ones(1)}, (4,)),
        ],
    )
    def test_rule_1_computes_what_is_bounded(
        self, build: Build, node: str, constants: dict[str, Any], shape: tuple[int, ...]
    ) -> None:
        model = build(f"{node} y = Add(x, b)", constants, x="float[N]")
        assert FoldConstants()(model).modified
        assert array_of(model.graph.initializers["b"]).shape == shape

    def test_rule_1_leaves_what_reads_the_input(self, build: Build) -> None:
        model = build("y = Relu(x)")
        assert not apply(FoldConstants(), model)
        assert operators(model) == {"Relu": 1}

    def test_rule_1_leaves_quantized_weights_alone(self, build: Build) -> None:
        constants = {"q": np.int8([[1]]), "s": np.float32(0.5), "z": np.int8(0)}
        model = build("w = DequantizeLinear(q, s, z) y = MatMul(x, w)", constants, x="float[N,1]")
        assert not apply(FoldConstants(), model)
        assert operators(model) == {"DequantizeLinear": 1, "MatMul": 1}

    def test_rule_1_leaves_random_numbers_alone(self, build: Build) -> None:
        model = build("r = RandomNormalLike(c) y = Add(x, r)", {"c": np.float32([1])})
        assert not apply(FoldConstants(), model)

    def test_rule_1_leaves_a_constant_output_alone(self, build: Build) -> None:
        model = build("y = Add(c, c)", {"c": np.float32([1])}, x="float[1]")
        assert not apply(FoldConstants(), model)

    def test_rule_2_reads_sizes_that_are_known(self, build: Build) -> None:
        model = build("s = Shape<start=1>(x) t = Cast<to=1>(s) y = Mul(x, t)", x="float[N,3]", opset=15)
        assert not apply(FoldConstants(), model)
        known = build("s = Shape<start=1>(x) t = Cast<to=1>(s) y = Mul(x, t)", x="float[2,3]", opset=15)
        assert apply(FoldConstants(), known)
        assert array_of(known.graph.initializers["t"]).tolist() == [3.0]


class TestFoldShapes:
    FLATTEN = "s = Shape(x) h = Slice(s, b, e) t = Concat<axis=0>(h, m) y = Reshape(x, t)"

    def test_rule_1_keeps_the_first_sizes(self, build: Build, judge: Judge) -> None:
        model = build(self.FLATTEN, {"b": i(0), "e": i(2), "m": i(-1)})
        before = model.clone()
        assert apply(FoldShapes(), model)
        assert operators(model) == {"Reshape": 1}
        reshape = next(iter(model.graph))
        assert array_of(reshape.inputs[1]).tolist() == [0, 0, -1]
        same(judge, before, model, (2, 3, 4, 5))

    def test_rule_1_is_for_the_very_value_that_is_reshaped(self, build: Build) -> None:
        body = "o = Concat<axis=2>(x, x) s = Shape(x) h = Slice(s, b, e) t = Concat<axis=0>(h, m) y = Reshape(o, t)"
        model = build(body, {"b": i(0), "e": i(2), "m": i(-1)})
        assert not apply(FoldShapes(), model)

    def test_rule_1_is_for_the_first_place(self, build: Build) -> None:
        model = build(
            "s = Shape(x) h = Slice(s, b, e) t = Concat<axis=0>(m, h) y = Reshape(x, t)",
            {"b": i(0), "e": i(2), "m": i(-1)},
        )
        assert not apply(FoldShapes(), model)

    @pytest.mark.parametrize("cast", [False, True])
    def test_rule_2_leaves_one_size_over(self, build: Build, judge: Judge, cast: bool) -> None:
        part = "c = Cast<to=6>(s) k = Slice(c, b, e) h = Cast<to=7>(k)" if cast else "h = Slice(s, b, e)"
        body = f"s = Shape(x) {part} t = Concat<axis=0>(z, h, p) y = Reshape(x, t)"
        model = build(body, {"b": i(1), "e": i(2), "z": i(0), "p": i(3, 5)}, x="float[N,T,15]")
        before = model.clone()
        assert apply(FoldShapes(), model)
        assert operators(model) == {"Reshape": 1}
        assert array_of(next(iter(model.graph)).inputs[1]).tolist() == [0, -1, 3, 5]
        same(judge, before, model, (2, 4, 15))

    def test_rule_2_needs_the_one_unknown_to_be_alone(self, build: Build) -> None:
        body = "s = Shape(x) h = Slice(s, b, e) t = Concat<axis=0>(h, h, m) y = Reshape(x, t)"
        assert not apply(FoldShapes(), build(body, {"b": i(1), "e": i(2), "m": i(-1)}))
        two = build("s = Shape(x) h = Slice(s, b, e) t = Concat<axis=0>(h, m) y = Reshape(x, t)",
                    {"b": i(3), "e": i(4), "m": i(-1)})  # fmt: skip
        assert not apply(FoldShapes(), two)

    def test_rule_3_drops_the_reshape_of_a_vector(self, build: Build, judge: Judge) -> None:
        body = "s = Shape(x) h = Slice(s, b, e) v = Reshape(g, h) y = Mul(x, v)"
        model = build(body, {"b": i(3), "e": i(4), "g": np.float32([1, 2, 3, 4, 5])}, x="float[N,3,H,5]")
        before = model.clone()
        apply(FoldShapes(), model)
        assert operators(model) == {"Mul": 1}
        same(judge, before, model, (1, 3, 2, 5))

    def test_rule_4_drops_the_reshape_to_the_operands_shape(self, build: Build, judge: Judge) -> None:
        model = build("a = Mul(x, c) s = Shape(x) r = Reshape(a, s) y = Relu(r)", {"c": np.float32([0.25])})
        before = model.clone()
        assert apply(FoldShapes(), model)
        assert operators(model) == {"Mul": 1, "Relu": 1}
        same(judge, before, model, (2, 3, 4, 5))

    def test_rule_4_needs_a_constant_of_one_element(self, build: Build) -> None:
        constants = {"c": np.ones((2, 1, 1, 1, 1), np.float32)}
        model = build("a = Mul(x, c) s = Shape(x) r = Reshape(a, s) y = Relu(r)", constants, x="float[1,3,2,2]")
        assert not FoldShapes()(model).modified


class TestDropNoOps:
    @pytest.mark.parametrize(
        ("body", "constants"),
        [
            ("a = Identity(x) b = Identity(a) y = Relu(b)", {}),
            ("a = Dropout(x) y = Relu(a)", {}),
            ("a = Cast<to=1>(x) y = Relu(a)", {}),
            ("a = Add(x, c) y = Relu(a)", {"c": np.float32([0])}),
            ("a = Add(c, x) y = Relu(a)", {"c": np.float32(0)}),
            ("a = Sub(x, c) y = Relu(a)", {"c": np.float32(0)}),
            ("a = Mul(c, x) y = Relu(a)", {"c": np.float32([1])}),
            ("a = Div(x, c) y = Relu(a)", {"c": np.float32([[1]])}),
            ("a = Transpose<perm=[0,1,2,3]>(x) y = Relu(a)", {}),
            ("a = Reshape(x, c) y = Relu(a)", {"c": i(0, 3, 0, 0)}),
        ],
        ids=["identity", "dropout", "cast", "add", "add left", "sub", "mul", "div", "transpose", "reshape"],
    )
    def test_drops(self, build: Build, judge: Judge, body: str, constants: dict[str, Any]) -> None:
        model = build(body, constants)
        before = model.clone()
        assert apply(DropNoOps(), model)
        assert operators(model) == {"Relu": 1}
        assert not apply(DropNoOps(), model)
        same(judge, before, model, (2, 3, 4, 5))

    @pytest.mark.parametrize(
        ("body", "constants"),
        [
            ("a = Sub(c, x) y = Relu(a)", {"c": np.float32(0)}),
            ("a = Div(c, x) y = Relu(a)", {"c": np.float32(1)}),
            ("a = Mul(x, c) y = Relu(a)", {"c": np.float32(1.0001)}),
            ("a = Add(x, c) y = Relu(a)", {"c": np.zeros((1, 1, 1, 1, 1), np.float32)}),
            ("a = Mul(x, c) y = Relu(a)", {"c": np.ones((3, 1, 1), np.float32)}),
            ("a = Reshape(x, c) y = Relu(a)", {"c": i(0, 0, -1)}),
            ("a = Transpose<perm=[0,1,3,2]>(x) y = Relu(a)", {}),
            ("a = Cast<to=11>(x) b = Relu(a) y = Cast<to=1>(b)", {}),
        ],
    )
    def test_keeps(self, build: Build, body: str, constants: dict[str, Any]) -> None:
        model = build(body, constants)
        before = operators(model)
        assert not apply(DropNoOps(), model)
        assert operators(model) == before

    def test_rule_4_joins_transposes(self, build: Build, judge: Judge) -> None:
        model = build("a = Transpose<perm=[0,2,3,1]>(x) b = Transpose<perm=[0,2,3,1]>(a) y = Relu(b)")
        before = model.clone()
        assert apply(DropNoOps(), model)
        assert operators(model) == {"Transpose": 1, "Relu": 1}
        same(judge, before, model, (2, 3, 4, 5))
        undone = build("a = Transpose<perm=[0,2,3,1]>(x) b = Transpose<perm=[0,3,1,2]>(a) y = Relu(b)")
        apply(DropNoOps(), undone)
        assert operators(undone) == {"Relu": 1}

    def test_rule_5_undoes_a_squeeze(self, build: Build, judge: Judge) -> None:
        model = build("a = Squeeze(x, c) b = Unsqueeze(a, c) y = Relu(b)", {"c": i(2)}, x="float[N,3,1,W]")
        before = model.clone()
        assert apply(DropNoOps(), model)
        assert operators(model) == {"Relu": 1}
        same(judge, before, model, (2, 3, 1, 5))

    def test_the_graphs_output_keeps_its_name(self, build: Build, judge: Judge) -> None:
        model = build("a = Relu(x) y = Identity(a)")
        assert apply(DropNoOps(), model)
        assert operators(model) == {"Relu": 1}
        assert [value.name for value in model.graph.outputs] == ["y"]
        assert judge(model, -np.ones((1, 3, 1, 1), np.float32)).max() == 0

    def test_the_graphs_input_never_becomes_its_output(self, build: Build) -> None:
        model = build("y = Identity(x)")
        assert not apply(DropNoOps(), model)
        assert operators(model) == {"Identity": 1}

    def test_two_outputs_of_one_value_stay_two(self, build: Build) -> None:
        model = build("a = Relu(x) y = Identity(a)")
        model.graph.outputs.append(next(iter(model.graph)).outputs[0])
        assert not apply(DropNoOps(), model)
        assert [value.name for value in canonicalize(model).graph.outputs] == ["y", "a"]


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 17, 20])
def test_the_whole_of_layer_norms_shape_arithmetic_goes(build: Build, judge: Judge, opset: int) -> None:
    """PP-OCRv3 reshapes scale and bias to the last size and flattens by Shape; nothing of it is left."""
    body = """
        s0 = Shape(x) h0 = Slice(s0, zero, two) t0 = Concat<axis=0>(h0, minus) f = Reshape(x, t0)
        t = Transpose<perm=[0,2,1]>(f)
        s1 = Shape(t) h1 = Slice(s1, two, three) g1 = Reshape(g, h1) m = Mul(t, g1)
        k = Mul(m, scale) s2 = Shape(m) y = Reshape(k, s2)
    """
    constants = {
        "zero": i(0),
        "two": i(2),
        "three": i(3),
        "minus": i(-1),
        "g": np.float32([1, 2, 3]),
        "scale": np.float32([0.5]),
    }
    model = build(body, constants, opset)
    result = canonicalize(model)
    assert operators(result) == {"Reshape": 1, "Transpose": 1, "Mul": 2}
    same(judge, model, result, (2, 3, 2, 4))
