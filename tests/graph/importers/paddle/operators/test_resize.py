from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocrslim.errors import ModelError

Operate = Callable[..., Any]
NEAREST = {"interp_method": "nearest", "align_corners": False, "align_mode": 1}


def lines(size: int, out: int, corners: bool, mode: int) -> Any:
    """Return the matrix ``[out, size]`` of a linear interpolation along one axis, from Paddle's formulas."""
    matrix = np.zeros((out, size))
    for i in range(out):
        if corners:
            source = i * (size - 1) / (out - 1)
        else:
            source = (i + 0.5) * size / out - 0.5 if mode == 0 else i * size / out
        source = min(max(source, 0), size - 1)
        low = int(source)
        high = min(low + 1, size - 1)
        matrix[i, low] += 1 - (source - low)
        matrix[i, high] += source - low
    return matrix


@pytest.mark.parametrize("type_", ["nearest_interp_v2", "nearest_interp"])
@pytest.mark.parametrize("scale", [2.0, [2.0, 3.0], [0.5, 0.5]])
def test_nearest_takes_the_pixel_before(type_: str, scale: Any, operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 4, 6)
    factors = scale if isinstance(scale, list) else [scale, scale]
    rows, columns = (np.arange(int(n * f)) / f for n, f in zip((4, 6), factors, strict=True))
    wanted = x[:, :, rows.astype(int)][..., columns.astype(int)]
    found = operate(type_, {"X": x}, {**NEAREST, "scale": scale, "out_h": -1, "out_w": -1})
    np.testing.assert_array_equal(found, wanted)


def test_nearest_with_aligned_corners_rounds_half_up(operate: Operate, numbers: Any) -> None:
    x = numbers(1, 1, 3, 3)
    places = np.floor(np.arange(5) * 2 / 4 + 0.5).astype(int)  # 0, 1, 1, 2, 2
    attributes = NEAREST | {"align_corners": True, "out_h": 5, "out_w": 5}
    np.testing.assert_array_equal(operate("nearest_interp_v2", {"X": x}, attributes), x[:, :, places][..., places])


@pytest.mark.parametrize(("corners", "mode"), [(False, 0), (False, 1), (True, 0), (True, 1)])
@pytest.mark.parametrize("size", [(8, 12), (5, 9)])
def test_bilinear(corners: bool, mode: int, size: tuple[int, int], operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 4, 6)
    attributes = {"out_h": size[0], "out_w": size[1], "align_corners": corners, "align_mode": mode, "scale": []}
    found = operate("bilinear_interp_v2", {"X": x}, attributes)
    rows, columns = (lines(old, new, corners, mode) for old, new in zip((4, 6), size, strict=True))
    np.testing.assert_allclose(found, rows @ x @ columns.T, rtol=1e-4, atol=1e-5)


def test_bilinear_by_pixel_centres_is_torchs(operate: Operate, numbers: Any) -> None:
    x = numbers(1, 2, 5, 7)
    found = operate("bilinear_interp_v2", {"X": x}, {"scale": [2.0, 2.0], "align_corners": False, "align_mode": 0})
    wanted = F.interpolate(torch.from_numpy(x), scale_factor=2, mode="bilinear").numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["one tensor", "two tensors"])
def test_the_size_may_be_a_tensor_and_goes_before_the_scale(way: str, operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 4, 6)
    sizes = {
        "one tensor": {"OutSize": np.array([8, 12], np.int32)},
        "two tensors": {"SizeTensor": [np.array([8], np.int32), np.array(12, np.int32)]},
    }[way]
    found = operate("nearest_interp_v2", {"X": x, **sizes}, {**NEAREST, "scale": [3.0, 3.0]}, open_sizes=False)
    np.testing.assert_array_equal(found, x.repeat(2, 2).repeat(2, 3))


def test_the_scale_may_be_a_tensor(operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 4, 6)
    found = operate("nearest_interp_v2", {"X": x, "Scale": np.array([2.0], np.float32)}, NEAREST)
    np.testing.assert_array_equal(found, x.repeat(2, 2).repeat(2, 3))


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [({"scale": [], "out_h": -1, "out_w": -1}, "neither a scale nor a size"), ({"data_layout": "NHWC"}, "layout NHWC")],
)
def test_what_cannot_be_done_is_said(attributes: Any, problem: str, operate: Operate, numbers: Any) -> None:
    with pytest.raises(ModelError, match=problem):
        operate("nearest_interp_v2", {"X": numbers(1, 1, 3, 3)}, attributes)
