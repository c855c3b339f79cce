from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Operate = Callable[..., Any]


@pytest.mark.parametrize("type_", ["assign", "share_data"])
def test_copies(type_: str, operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3)
    np.testing.assert_array_equal(operate(type_, {"X": x}), x)


@pytest.mark.parametrize("stated", [True, False])
def test_a_cast_goes_where_the_attribute_or_the_variable_says(stated: bool, operate: Operate) -> None:
    x = np.array([[1.9, -1.9]], np.float32)
    attributes = {"out_dtype": np.dtype(np.int64)} if stated else {"out_dtype": 99}
    np.testing.assert_array_equal(operate("cast", {"X": x}, attributes, result=np.int64), [[1, -1]])


class TestFillConstant:
    @pytest.fixture
    def fill(self, operate: Operate) -> Operate:
        """Return a function that adds the constant to zeros, as an output must not be a constant itself."""

        def run(attributes: dict[str, Any], result: Any, **inputs: Any) -> Any:
            return operate("fill_constant", inputs, attributes, result=result, open_sizes=False)

        return run

    @pytest.mark.parametrize(
        ("text", "result", "wanted"),
        [
            ("0.5", np.float32, 0.5),
            ("7", np.int64, 7),
            ("9007199254740993", np.int64, 2**53 + 1),
            ("inf", np.float32, np.inf),
        ],
    )
    def test_the_text_goes_before_the_value(self, fill: Operate, text: str, result: Any, wanted: Any) -> None:
        shape = np.array([2, 3], np.int64)
        attributes = {"str_value": text, "value": 99.0, "dtype": np.dtype(result)}
        found = fill(attributes, result, ShapeTensor=shape)
        np.testing.assert_array_equal(found, np.full((2, 3), wanted, result))

    def test_value_and_shape_may_be_tensors(self, fill: Operate) -> None:
        two, three = np.array([2], np.int32), np.array([3], np.int32)
        found = fill({}, np.float32, ValueTensor=np.array([1.5], np.float32), ShapeTensorList=[two, three])
        np.testing.assert_array_equal(found, np.full((2, 3), 1.5, np.float32))


def test_a_constant_of_known_shape_is_an_initializer_of_its_name(make_network: Callable[..., Any]) -> None:
    model = make_network("fill_constant", {"shape": [2], "value": 4.0, "dtype": np.dtype(np.float32)})
    np.testing.assert_array_equal(model.graph.initializers["constant"].const_value.numpy(), [4, 4])
    assert [node.op_type for node in model.graph] == ["Add"]


def test_values_may_be_listed(make_network: Callable[..., Any]) -> None:
    model = make_network("assign_value", {"shape": [1, 2], "fp32_values": [0.5, 2.0], "values": []})
    np.testing.assert_array_equal(model.graph.initializers["constant"].const_value.numpy(), [[0.5, 2]])


def test_a_list_of_integers_may_be_a_tensor(make_network: Callable[..., Any]) -> None:
    model = make_network("integers", {"value": [3, 4]})
    np.testing.assert_array_equal(model.graph.initializers["constant"].const_value.numpy(), [3, 4])


def test_filling_like_another(operate: Operate, numbers: Any) -> None:
    found = operate("fill_any_like", {"X": numbers(2, 3)}, {"value": 2.0})
    np.testing.assert_array_equal(found, np.full((2, 3), 2, np.float32))


def test_a_range(operate: Operate) -> None:
    ends = {"Start": np.array([1], np.int64), "End": np.array([9], np.int64), "Step": np.array([3], np.int64)}
    np.testing.assert_array_equal(operate("range", ends, result=np.int64, open_sizes=False), [1, 4, 7])
