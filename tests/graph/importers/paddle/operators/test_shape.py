from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocrslim.errors import ModelError

Operate = Callable[..., Any]
SIZE = (2, 3, 4, 5)


@pytest.fixture
def x(numbers: Any) -> Any:
    return numbers(*SIZE)


@pytest.mark.parametrize("result", [np.int32, np.int64])
def test_shape(result: Any, operate: Operate, x: Any) -> None:
    np.testing.assert_array_equal(operate("shape", {"Input": x}, result=result), SIZE)


@pytest.mark.parametrize("type_", ["reshape", "reshape2"])
@pytest.mark.parametrize("shape", [[0, -1], [6, 20], [0, 0, -1], [-1]])
def test_reshape_knows_zeros_and_what_is_left_over(type_: str, shape: list[int], operate: Operate, x: Any) -> None:
    sizes = [SIZE[place] if size == 0 else size for place, size in enumerate(shape)]
    np.testing.assert_array_equal(operate(type_, {"X": x}, {"shape": shape}), x.reshape(sizes))


def test_reshape_to_tensors_goes_before_the_attribute(operate: Operate, x: Any) -> None:
    parts = [np.array([2], np.int32), np.array([-1], np.int32)]
    np.testing.assert_array_equal(operate("reshape2", {"X": x, "ShapeTensor": parts}, {"shape": [1]}), x.reshape(2, -1))
    one = np.array([6, 20], np.int32)
    np.testing.assert_array_equal(operate("reshape2", {"X": x, "Shape": one}, {"shape": [1]}), x.reshape(6, 20))


@pytest.mark.parametrize(("start", "stop"), [(1, 3), (2, 3), (0, 3), (1, 2), (0, 1), (1, -1), (-3, -2), (2, 2)])
def test_flatten_some_axes(start: int, stop: int, operate: Operate, x: Any) -> None:
    found = operate("flatten_contiguous_range", {"X": x}, {"start_axis": start, "stop_axis": stop})
    np.testing.assert_array_equal(found, torch.from_numpy(x).flatten(start, stop).numpy())


@pytest.mark.parametrize(("axis", "wanted"), [(1, (2, 60)), (2, (6, 20))])
def test_flatten_into_two(axis: int, wanted: tuple[int, int], operate: Operate, x: Any) -> None:
    np.testing.assert_array_equal(operate("flatten2", {"X": x}, {"axis": axis}), x.reshape(wanted))


@pytest.mark.parametrize("axes", [[0, 2, 3, 1], [3, 2, 1, 0], [0, -1, 1, 2]])
def test_transpose(axes: list[int], operate: Operate, x: Any) -> None:
    np.testing.assert_array_equal(operate("transpose2", {"X": x}, {"axis": axes}), x.transpose(axes))


@pytest.mark.parametrize(
    ("size", "axes", "wanted"),
    [
        ((2, 3, 1, 5), [2], (2, 3, 5)),
        ((2, 3, 1, 5), [-2], (2, 3, 5)),
        ((1, 3, 1, 5), [0, 2], (3, 5)),
        ((2, 3, 1, 5), [], (2, 3, 5)),
        ((2, 3, 1, 5), [1], (2, 3, 1, 5)),  # of size 3: Paddle leaves it
    ],
)
def test_squeeze(size: Any, axes: list[int], wanted: Any, operate: Operate, numbers: Any) -> None:
    given = numbers(*size)
    found = operate("squeeze2", {"X": given}, {"axes": axes}, open_sizes=False)
    np.testing.assert_array_equal(found, given.reshape(wanted))


def test_squeeze_trusts_the_name_of_an_open_axis(operate: Operate, numbers: Any) -> None:
    given = numbers(2, 3, 1, 5)
    np.testing.assert_array_equal(operate("squeeze2", {"X": given}, {"axes": [2]}), given[:, :, 0])


@pytest.mark.parametrize("axes", [[0], [1], [-1], [0, 2], [1, 1], [-1, 0], [2, 0], [0, 0, 0]])
def test_unsqueeze_inserts_one_after_the_other(axes: list[int], operate: Operate, numbers: Any) -> None:
    given = numbers(2, 3)
    wanted = given
    for axis in axes:
        wanted = np.expand_dims(wanted, axis)
    np.testing.assert_array_equal(operate("unsqueeze2", {"X": given}, {"axes": axes}), wanted)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_join(axis: int, operate: Operate, x: Any) -> None:
    np.testing.assert_array_equal(
        operate("concat", {"X": [x, 2 * x]}, {"axis": axis}), np.concatenate([x, 2 * x], axis)
    )
    np.testing.assert_array_equal(
        operate("stack", {"X": [x, 2 * x, x]}, {"axis": axis}, slot="Y"), np.stack([x, 2 * x, x], axis)
    )


def test_expand_keeps_what_is_minus_one(operate: Operate, numbers: Any) -> None:
    given = numbers(2, 1, 4)
    wanted = np.broadcast_to(given, (2, 3, 4))
    np.testing.assert_array_equal(operate("expand_v2", {"X": given}, {"shape": [-1, 3, -1]}), wanted)
    sizes = np.array([-1, 3, 4], np.int32)
    np.testing.assert_array_equal(operate("expand_v2", {"X": given, "Shape": sizes}), wanted)
    longer = operate("expand_v2", {"X": given}, {"shape": [5, -1, 3, -1]})
    np.testing.assert_array_equal(longer, np.broadcast_to(given, (5, 2, 3, 4)))


@pytest.mark.parametrize("repeats", [[2, 1, 3], [3], [2, 1, 1, 2]])
def test_tile(repeats: list[int], operate: Operate, numbers: Any) -> None:
    given = numbers(2, 3, 4)
    np.testing.assert_array_equal(operate("tile", {"X": given}, {"repeat_times": repeats}), np.tile(given, repeats))


class TestPad:
    @pytest.mark.parametrize(
        ("mode", "torchs"),
        [("constant", "constant"), ("reflect", "reflect"), ("replicate", "replicate"), ("circular", "circular")],
    )
    def test_pad3d_begins_with_the_last_axis(self, mode: str, torchs: str, operate: Operate, numbers: Any) -> None:
        given = numbers(1, 2, 3, 4, 5)
        pads = [1, 2, 0, 1, 2, 1]
        value = {"value": 0.5} if mode == "constant" else {}
        found = operate("pad3d", {"X": given}, {"paddings": pads, "mode": mode, "data_format": "NCDHW", **value})
        wanted = F.pad(torch.from_numpy(given), pads, torchs, **value)
        np.testing.assert_array_equal(found, wanted.numpy())

    def test_pad2d_begins_with_the_first(self, operate: Operate, x: Any) -> None:
        found = operate("pad2d", {"X": x}, {"paddings": [1, 2, 3, 4], "pad_value": -1.0})
        np.testing.assert_array_equal(found, np.pad(x, [(0, 0), (0, 0), (1, 2), (3, 4)], constant_values=-1))

    def test_pad_names_all_axes(self, operate: Operate, numbers: Any) -> None:
        found = operate("pad", {"X": numbers(2, 3)}, {"paddings": [0, 1, 2, 0], "pad_value": 4.0})
        np.testing.assert_array_equal(found, np.pad(numbers(2, 3), [(0, 1), (2, 0)], constant_values=4))


@pytest.mark.parametrize(
    ("type_", "inputs", "attributes", "problem"),
    [
        ("concat", {"AxisTensor": np.array([1], np.int32)}, {}, "axis is not a constant"),
        ("pad3d", {"Paddings": np.zeros(6, np.int32)}, {}, "paddings are not constants"),
        ("pad3d", {}, {"paddings": [1] * 6, "data_format": "NDHWC"}, "only NCHW and NCDHW"),
        ("unsqueeze2", {"AxesTensor": np.array([1], np.int32)}, {}, "its axes is not a constant"),
        ("tile", {"RepeatTimes": np.array([1], np.int32)}, {}, "its repeat_times is not a constant"),
    ],
)
def test_what_cannot_be_told_in_onnx_is_said(
    type_: str, inputs: Any, attributes: Any, problem: str, operate: Operate, numbers: Any
) -> None:
    with pytest.raises(ModelError, match=problem):
        operate(type_, {"X": numbers(1, 2, 3, 4, 5), **inputs}, attributes)
