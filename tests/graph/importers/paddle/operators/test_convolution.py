from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocrslim.errors import ModelError

Operate = Callable[..., Any]


def close(found: Any, wanted: torch.Tensor) -> None:
    assert found.shape == tuple(wanted.shape)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.fixture
def conv(operate: Operate) -> Operate:
    def run(type_: str, x: Any, w: Any, **attributes: Any) -> Any:
        return operate(type_, {"Input": x, "Filter": w}, attributes, slot="Output", constants=["Filter"])

    return run


@pytest.mark.parametrize("strides", [[1, 1], [2, 1]])
@pytest.mark.parametrize(("groups", "type_"), [(1, "conv2d"), (2, "conv2d"), (4, "depthwise_conv2d")])
@pytest.mark.parametrize("dilations", [[1, 1], [2, 1]])
def test_settings(
    type_: str, groups: int, strides: list[int], dilations: list[int], conv: Operate, numbers: Any
) -> None:
    x, w = numbers(2, 4, 9, 11), numbers(4, 4 // groups, 3, 3)
    found = conv(type_, x, w, strides=strides, paddings=[1, 2], dilations=dilations, groups=groups)
    wanted = F.conv2d(
        torch.from_numpy(x), torch.from_numpy(w), None, tuple(strides), (1, 2), tuple(dilations), groups=groups
    )
    close(found, wanted)


def test_four_paddings_are_top_bottom_left_right(conv: Operate, numbers: Any) -> None:
    x, w = numbers(1, 2, 5, 6), numbers(3, 2, 3, 3)
    found = conv("conv2d", x, w, paddings=[0, 1, 2, 3])
    close(found, F.conv2d(F.pad(torch.from_numpy(x), (2, 3, 0, 1)), torch.from_numpy(w)))


def same(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Pad so that ceil(size / stride) outputs come; of an odd number of pixels the last side gets one more."""
    pads = []
    for size in x.shape[:1:-1]:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


@pytest.mark.parametrize("size", [(8, 9), (7, 10)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3])
def test_same_pads_the_end_more(size: tuple[int, int], stride: int, kernel: int, conv: Operate, numbers: Any) -> None:
    x, w = numbers(1, 2, *size), numbers(3, 2, kernel, kernel)
    # Paddle ignores the paddings and the dilations beside SAME.
    attributes = {"padding_algorithm": "SAME", "paddings": [5, 5], "dilations": [2, 2]}
    found = conv("conv2d", x, w, strides=[stride, stride], **attributes)
    close(found, F.conv2d(same(torch.from_numpy(x), kernel, stride), torch.from_numpy(w), stride=stride))


def test_valid_pads_nothing(conv: Operate, numbers: Any) -> None:
    x, w = numbers(1, 2, 5, 6), numbers(3, 2, 3, 3)
    found = conv("conv2d", x, w, padding_algorithm="VALID", paddings=[1, 1])
    close(found, F.conv2d(torch.from_numpy(x), torch.from_numpy(w)))


def test_a_fused_bias_is_added(operate: Operate, numbers: Any) -> None:
    x, w, b = numbers(1, 2, 5, 6), numbers(3, 2, 3, 3), numbers(3)
    inputs = {"Input": x, "Filter": w, "Bias": b}
    found = operate("conv2d", inputs, {}, slot="Output", constants=["Filter", "Bias"])
    close(found, F.conv2d(torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b)))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("extra", [[], [1, 0]])
@pytest.mark.parametrize("paddings", [[0, 0], [1, 1], [1, 1, 1, 1]])
def test_transposed(groups: int, extra: list[int], paddings: list[int], conv: Operate, numbers: Any) -> None:
    x, w = numbers(2, 4, 5, 6), numbers(4, 6 // groups, 3, 3)
    found = conv(
        "conv2d_transpose", x, w, strides=[2, 2], paddings=paddings, output_padding=extra, groups=groups, output_size=[]
    )
    wanted = F.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(w), None, 2, tuple(paddings[:2]), tuple(extra or (0, 0)), groups
    )
    close(found, wanted)


@pytest.mark.parametrize(
    ("type_", "attributes", "problem"),
    [
        ("conv2d", {"data_format": "NHWC"}, "the layout NHWC"),
        ("conv2d", {"padding_algorithm": "MIRROR"}, "padding_algorithm MIRROR is unknown"),
        ("conv2d_transpose", {"padding_algorithm": "SAME"}, "SAME can't be converted"),
        ("conv2d_transpose", {"output_size": [9, 9]}, "an output_size can't be converted"),
    ],
)
def test_what_cannot_be_told_in_onnx_is_said(
    type_: str, attributes: dict[str, Any], problem: str, conv: Operate, numbers: Any
) -> None:
    with pytest.raises(ModelError, match=rf"operator {type_} of node 'y0': .*{problem}.*; convert the model to ONNX"):
        conv(type_, numbers(1, 2, 5, 6), numbers(2, 2, 3, 3), **attributes)
