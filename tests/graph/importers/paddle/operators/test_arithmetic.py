from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ocrslim.errors import ModelError

Operate = Callable[..., Any]
BINARY = {
    "elementwise_add": np.add,
    "elementwise_sub": np.subtract,
    "elementwise_mul": np.multiply,
    "elementwise_div": np.divide,
    "elementwise_max": np.maximum,
    "elementwise_min": np.minimum,
}


@pytest.mark.parametrize("type_", BINARY)
@pytest.mark.parametrize(
    ("size", "axis", "aligned"),
    [
        ((2, 3, 4, 5), -1, (2, 3, 4, 5)),
        ((5,), -1, (5,)),
        ((3,), 1, (3, 1, 1)),
        ((3, 4), 1, (3, 4, 1)),
        ((2,), 0, (2, 1, 1, 1)),
        ((3, 1, 1), 1, (3, 1, 1)),
        ((4, 5), 2, (4, 5)),
        ((1,), -1, (1,)),
    ],
)
def test_axis_says_where_the_second_begins(
    type_: str, size: tuple[int, ...], axis: int, aligned: tuple[int, ...], operate: Operate, numbers: Any
) -> None:
    x, y = numbers(2, 3, 4, 5), numbers(*size, seed=1) + 3
    found = operate(type_, {"X": x, "Y": y}, {"axis": axis}, constants=["Y"])
    np.testing.assert_allclose(found, BINARY[type_](x, y.reshape(aligned)), rtol=1e-6)


def test_a_scalar_parameter_may_come_first(operate: Operate, numbers: Any) -> None:
    # The learnable affine blocks of PP-OCRv4 multiply [1] with a map.
    x = numbers(2, 3, 4, 5)
    found = operate("elementwise_mul", {"X": np.array([2.0], np.float32), "Y": x}, {"axis": -1}, constants=["X"])
    np.testing.assert_array_equal(found, 2 * x)


def test_powers(operate: Operate, numbers: Any) -> None:
    x = np.abs(numbers(2, 3)) + 0.1
    found = operate("elementwise_pow", {"X": x, "Y": np.array(1.5, np.float32)}, {"axis": -1})
    np.testing.assert_allclose(found, x**1.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("type_", "wanted"),
    [
        ("equal", np.equal),
        ("not_equal", np.not_equal),
        ("greater_than", np.greater),
        ("greater_equal", np.greater_equal),
        ("less_than", np.less),
        ("less_equal", np.less_equal),
    ],
)
def test_comparisons(type_: str, wanted: Any, operate: Operate) -> None:
    x, y = np.array([[1, 2, 3]], np.int64), np.array([[3, 2, 1]], np.int64)
    np.testing.assert_array_equal(operate(type_, {"X": x, "Y": y}, result=np.bool_), wanted(x, y))


@pytest.mark.parametrize(("type_", "wanted"), [("logical_and", np.logical_and), ("logical_or", np.logical_or)])
def test_logic(type_: str, wanted: Any, operate: Operate) -> None:
    x, y = np.array([[True, True, False]]), np.array([[True, False, False]])
    np.testing.assert_array_equal(operate(type_, {"X": x, "Y": y}, result=np.bool_), wanted(x, y))


def test_sizes_are_divided_without_remainder(operate: Operate) -> None:
    x, y = np.array([[7, 8, 9]], np.int64), np.array([2], np.int64)
    np.testing.assert_array_equal(operate("elementwise_floordiv", {"X": x, "Y": y}, result=np.int64), [[3, 4, 4]])
    np.testing.assert_array_equal(operate("elementwise_mod", {"X": x, "Y": y}, result=np.int64), [[1, 0, 1]])
    found = operate("elementwise_floordiv", {"X": x.astype(np.float32), "Y": y.astype(np.float32)})
    np.testing.assert_array_equal(found, [[3, 4, 4]])


def test_a_choice_between_two(operate: Operate, numbers: Any) -> None:
    x, y = numbers(2, 3), numbers(2, 3, seed=1)
    found = operate("where", {"Condition": x > 0, "X": x, "Y": y})
    np.testing.assert_array_equal(found, np.where(x > 0, x, y))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_sum_of_several(count: int, operate: Operate, numbers: Any) -> None:
    parts = [numbers(2, 3, seed=seed) for seed in range(count)]
    np.testing.assert_allclose(operate("sum", {"X": parts}), sum(parts), rtol=1e-5, atol=1e-6)


class TestScale:
    @pytest.mark.parametrize(("after", "wanted"), [(True, lambda x: 2 * x + 3), (False, lambda x: 2 * (x + 3))])
    def test_the_bias_goes_behind_or_before(self, after: bool, wanted: Any, operate: Operate, numbers: Any) -> None:
        x = numbers(2, 3)
        found = operate("scale", {"X": x}, {"scale": 2.0, "bias": 3.0, "bias_after_scale": after})
        np.testing.assert_allclose(found, wanted(x), rtol=1e-6)

    def test_by_one_does_nothing(self, operate: Operate, numbers: Any) -> None:
        x = numbers(2, 3)
        np.testing.assert_array_equal(operate("scale", {"X": x}, {"scale": 1.0, "bias": 0.0}), x)

    def test_by_a_tensor(self, operate: Operate, numbers: Any) -> None:
        x = numbers(2, 3)
        found = operate("scale", {"X": x, "ScaleTensor": np.array([4.0], np.float32)}, {"bias": 1.0})
        np.testing.assert_allclose(found, 4 * x + 1, rtol=1e-6)

    def test_of_whole_numbers(self, operate: Operate) -> None:
        x = np.array([[1, 2]], np.int32)
        found = operate("scale", {"X": x}, {"scale": 3.0, "bias": -1.0}, result=np.int32)
        np.testing.assert_array_equal(found, 3 * x - 1)
        with pytest.raises(ModelError, match="whole numbers times a fraction"):
            operate("scale", {"X": x}, {"scale": 0.5}, result=np.int32)


class TestMatmul:
    @pytest.mark.parametrize("x_swapped", [False, True])
    @pytest.mark.parametrize("y_swapped", [False, True])
    @pytest.mark.parametrize("names", [("trans_x", "trans_y"), ("transpose_X", "transpose_Y")])
    def test_operands_may_be_swapped(
        self, x_swapped: bool, y_swapped: bool, names: tuple[str, str], operate: Operate, numbers: Any
    ) -> None:
        x, y = numbers(2, 3, 4, 5), numbers(2, 3, 5, 6, seed=1)
        given = (x.swapaxes(-1, -2) if x_swapped else x, y.swapaxes(-1, -2) if y_swapped else y)
        inputs = {"X": np.ascontiguousarray(given[0]), "Y": np.ascontiguousarray(given[1])}
        found = operate("matmul_v2", inputs, dict(zip(names, (x_swapped, y_swapped), strict=True)))
        np.testing.assert_allclose(found, x @ y, rtol=1e-4, atol=1e-5)

    def test_the_old_one_has_a_factor(self, operate: Operate, numbers: Any) -> None:
        x, y = numbers(2, 3, 4), numbers(2, 4, 5)
        np.testing.assert_allclose(operate("matmul", {"X": x, "Y": y}, {"alpha": 0.5}), x @ y / 2, rtol=1e-4, atol=1e-5)

    def test_a_weight_keeps_its_name(self, operate: Operate, numbers: Any) -> None:
        x, w = numbers(2, 7, 4), numbers(4, 6)
        np.testing.assert_allclose(operate("matmul_v2", {"X": x, "Y": w}, constants=["Y"]), x @ w, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("columns", "size"), [(1, (2, 3, 4)), (2, (2, 3, 12))])
    def test_mul_flattens_the_last_axes(
        self, columns: int, size: tuple[int, ...], operate: Operate, numbers: Any
    ) -> None:
        x, w = numbers(*size), numbers(12, 5)
        attributes = {"x_num_col_dims": columns, "y_num_col_dims": 1}
        found = operate("mul", {"X": x, "Y": w}, attributes, constants=["Y"])
        np.testing.assert_allclose(found, x.reshape(*size[:columns], 12) @ w, rtol=1e-4, atol=1e-5)

    def test_a_fused_layer_has_bias_and_activation(self, operate: Operate, numbers: Any) -> None:
        x, w, b = numbers(2, 3, 4), numbers(4, 5), numbers(5)
        attributes = {"in_num_col_dims": 2, "activation_type": "relu"}
        found = operate("fc", {"Input": x, "W": w, "Bias": b}, attributes, constants=["W", "Bias"])
        np.testing.assert_allclose(found, np.maximum(x @ w + b, 0), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("attributes", "size"), [({"activation_type": "tanh"}, (4, 5)), ({}, (1, 4, 5))])
    def test_what_is_rare_is_said(
        self, attributes: dict[str, Any], size: Sequence[int], operate: Operate, numbers: Any
    ) -> None:
        inputs = {"Input": numbers(2, 4), "W": numbers(*size)}
        with pytest.raises(ModelError, match=r"operator fc of node 'y0': (its activation tanh|only a weight of two)"):
            operate("fc", inputs, attributes, constants=["W"])


@pytest.mark.parametrize(
    ("type_", "wanted"),
    [
        ("reduce_mean", np.mean),
        ("reduce_sum", np.sum),
        ("reduce_max", np.max),
        ("reduce_min", np.min),
        ("reduce_prod", np.prod),
    ],
)
@pytest.mark.parametrize(("axes", "keep"), [([2, 3], True), ([-1], False), ([], False), ([], True)])
def test_reductions(type_: str, wanted: Any, axes: list[int], keep: bool, operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 4, 5)
    found = operate(type_, {"X": x}, {"dim": axes, "keep_dim": keep, "reduce_all": not axes})
    np.testing.assert_allclose(found, wanted(x, tuple(axes) or None, keepdims=keep), rtol=1e-4, atol=1e-5)


def test_reduce_all_goes_before_the_axes(operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3)
    found = operate("reduce_sum", {"X": x}, {"dim": [0], "reduce_all": True})
    np.testing.assert_allclose(found, x.sum(), rtol=1e-5)


@pytest.mark.parametrize("result", [np.int64, np.int32])
@pytest.mark.parametrize(("type_", "wanted"), [("arg_max", np.argmax), ("arg_min", np.argmin)])
def test_where_the_extreme_is(type_: str, wanted: Any, result: Any, operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 4)
    found = operate(type_, {"X": x}, {"axis": 1, "keepdims": True}, result=result)
    np.testing.assert_array_equal(found, wanted(x, 1, keepdims=True))
    with pytest.raises(ModelError, match="only along one axis"):
        operate(type_, {"X": x}, {"flatten": True}, result=result)
