from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ocrslim.errors import ModelError

Operate = Callable[..., Any]


@pytest.fixture
def x(numbers: Any) -> Any:
    return numbers(2, 6, 4)


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"axes": [1], "starts": [1], "ends": [4]}, np.s_[:, 1:4]),
        ({"axes": [0, 1], "starts": [1, -2], "ends": [2, 2147483647]}, np.s_[1:2, -2:]),
        ({"axes": [1], "starts": [2], "ends": [3], "decrease_axis": [1]}, np.s_[:, 2]),
        ({"axes": [0, 2], "starts": [0, 3], "ends": [1, 4], "decrease_axis": [0, 2]}, np.s_[0, :, 3]),
    ],
)
def test_a_part(attributes: Any, wanted: Any, operate: Operate, x: Any) -> None:
    np.testing.assert_array_equal(operate("slice", {"Input": x}, attributes), x[wanted])


def test_bounds_may_be_tensors(operate: Operate, x: Any) -> None:
    inputs = {"Input": x, "StartsTensor": np.array([1], np.int32), "EndsTensorList": [np.array([5], np.int32)]}
    np.testing.assert_array_equal(operate("slice", inputs, {"axes": [1], "starts": [0], "ends": [0]}), x[:, 1:5])


@pytest.mark.parametrize(("shape", "wanted"), [((1,), [6]), ((), 6)])
def test_one_number_of_a_shape_has_an_axis_or_none(shape: Any, wanted: Any, operate: Operate) -> None:
    # Before Paddle 2.6 every tensor had an axis; the variable says so.
    sizes = np.array([2, 6, 4], np.int64)
    attributes = {"axes": [0], "starts": [1], "ends": [2], "decrease_axis": [0]}
    found = operate("slice", {"Input": sizes}, attributes, result=np.int64, shape=shape, open_sizes=False)
    assert found.shape == shape
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"axes": [1], "starts": [0], "ends": [6], "strides": [2]}, np.s_[:, ::2]),
        ({"axes": [2], "starts": [-1], "ends": [-2147483648], "strides": [-1]}, np.s_[..., ::-1]),
        ({"axes": [1], "starts": [1], "ends": [2], "strides": [1], "decrease_axis": [1]}, np.s_[:, 1]),
    ],
)
def test_a_part_in_steps(attributes: Any, wanted: Any, operate: Operate, x: Any) -> None:
    np.testing.assert_array_equal(operate("strided_slice", {"Input": x}, attributes), x[wanted])


@pytest.mark.parametrize(
    ("attributes", "count", "cuts"),
    [
        ({"axis": 1, "num": 3, "sections": []}, 3, [2, 4]),
        ({"axis": -1, "num": 2}, 2, [2]),
        ({"axis": 1, "sections": [1, 2, 3]}, 3, [1, 3]),
        ({"axis": 1, "sections": [1, -1, 2]}, 3, [1, 4]),
    ],
)
def test_split(attributes: Any, count: int, cuts: list[int], operate: Operate, x: Any) -> None:
    found = operate("split", {"X": x}, attributes, outputs=count)
    for part, wanted in zip(found, np.split(x, cuts, attributes["axis"]), strict=True):
        np.testing.assert_array_equal(part, wanted)


@pytest.mark.parametrize(("type_", "slot"), [("unstack", "Y"), ("unbind", "Out")])
def test_one_by_one(type_: str, slot: str, operate: Operate, x: Any) -> None:
    found = operate(type_, {"X": x}, {"axis": 2}, slot=slot, outputs=4)
    for place, part in enumerate(found):
        np.testing.assert_array_equal(part, x[..., place])


@pytest.mark.parametrize("attributes", [{"axis": 1}, {"axis": [1]}, {"dim": 1}])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_gather(attributes: Any, shape: tuple[int, ...], operate: Operate, x: Any) -> None:
    index = np.array([4, 0, 4], np.int64).reshape(shape)
    np.testing.assert_array_equal(operate("gather", {"X": x, "Index": index}, attributes), x[:, [4, 0, 4]])


@pytest.mark.parametrize(
    ("type_", "inputs", "attributes", "problem"),
    [
        ("split", {"AxisTensor": np.array([1], np.int32)}, {}, "axis or its sections are not constants"),
        ("split", {}, {"axis": 0, "sections": [1, -1]}, "a section of -1 of an open axis"),
        ("gather", {"Index": np.array([0]), "Axis": np.array([1])}, {}, "its axis is not a constant"),
    ],
)
def test_what_cannot_be_told_in_onnx_is_said(
    type_: str, inputs: Any, attributes: Any, problem: str, operate: Operate, x: Any
) -> None:
    with pytest.raises(ModelError, match=problem):
        operate(type_, {"X": x, **inputs}, attributes, outputs=2 if type_ == "split" else 1)
