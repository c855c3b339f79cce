from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocrslim.errors import ModelError

Operate = Callable[..., Any]
KINDS = ("max", "avg")


def close(found: Any, wanted: torch.Tensor) -> None:
    assert found.shape == tuple(wanted.shape)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_windows(kind: str, ceil: bool, operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 9, 8)
    attributes = {
        "pooling_type": kind,
        "ksize": [3, 2],
        "strides": [2, 2],
        "paddings": [0, 0],
        "ceil_mode": ceil,
        "exclusive": True,
    }
    function = F.max_pool2d if kind == "max" else F.avg_pool2d
    close(operate("pool2d", {"X": x}, attributes), function(torch.from_numpy(x), (3, 2), 2, ceil_mode=ceil))


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_border_counts_or_does_not(exclusive: bool, operate: Operate, numbers: Any) -> None:
    x = numbers(1, 2, 6, 6)
    attributes = {"pooling_type": "avg", "ksize": [3, 3], "strides": [1, 1], "paddings": [1, 1], "exclusive": exclusive}
    wanted = F.avg_pool2d(torch.from_numpy(x), 3, 1, 1, count_include_pad=not exclusive)
    close(operate("pool2d", {"X": x}, attributes), wanted)


@pytest.mark.parametrize("how", [{"global_pooling": True, "ksize": [7, 7]}, {"adaptive": True, "ksize": [1, 1]}])
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_map(kind: str, how: dict[str, Any], operate: Operate, numbers: Any) -> None:
    x = numbers(2, 3, 4, 5)
    wanted = x.max((2, 3), keepdims=True) if kind == "max" else x.mean((2, 3), keepdims=True)
    close(operate("pool2d", {"X": x}, {"pooling_type": kind, **how}), torch.from_numpy(wanted))


def test_cells_of_one_size(operate: Operate, numbers: Any) -> None:
    x = numbers(1, 2, 6, 8)
    attributes = {"pooling_type": "avg", "adaptive": True, "ksize": [3, 2]}
    wanted = F.adaptive_avg_pool2d(torch.from_numpy(x), (3, 2))
    close(operate("pool2d", {"X": x}, attributes, open_sizes=False), wanted)


@pytest.mark.parametrize("open_sizes", [True, False])
def test_cells_of_several_sizes_are_refused(open_sizes: bool, operate: Operate, numbers: Any) -> None:
    attributes = {"pooling_type": "avg", "adaptive": True, "ksize": [3, 3]}
    with pytest.raises(ModelError, match=r"adaptive pooling of (-1x-1|7x7) .* to \[3, 3\] has no ONNX counterpart"):
        operate("pool2d", {"X": numbers(1, 2, 7, 7)}, attributes, open_sizes=open_sizes)


def test_the_one_that_gives_places_too_gives_maxima(operate: Operate, numbers: Any) -> None:
    x = numbers(1, 2, 6, 8)
    attributes = {"ksize": [2, 2], "strides": [2, 2], "paddings": [0, 0]}
    close(operate("max_pool2d_with_index", {"X": x}, attributes), F.max_pool2d(torch.from_numpy(x), 2))


def test_one_size_serves_both_axes(operate: Operate, numbers: Any) -> None:
    x = numbers(1, 2, 6, 8)
    attributes = {"pooling_type": "max", "ksize": [2], "strides": [2, 2], "padding_algorithm": "VALID"}
    close(operate("pool2d", {"X": x}, attributes), F.max_pool2d(torch.from_numpy(x), 2))


@pytest.mark.parametrize("size", [(7, 9), (8, 8)])
def test_same_pads_the_end_more(size: tuple[int, int], operate: Operate, numbers: Any) -> None:
    x = numbers(1, 2, *size)
    attributes = {"pooling_type": "max", "ksize": [2, 2], "strides": [1, 1], "padding_algorithm": "SAME"}
    padded = F.pad(torch.from_numpy(x), (0, 1, 0, 1), value=-torch.inf)
    close(operate("pool2d", {"X": x}, attributes), F.max_pool2d(padded, 2, 1))
