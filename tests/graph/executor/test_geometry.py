from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.graph.executor.ops.convolution import conv_transpose
from ocrslim.graph.executor.ops.geometry import as_torch_pad, effective_kernel, ints, resolve_padding

SIZES = st.integers(1, 40)
SMALL = st.integers(1, 7)


@pytest.mark.parametrize(
    ("kernel", "dilations", "extents"),
    [((3, 3), (1, 1), [3, 3]), ((3, 5), (2, 3), [5, 13]), ((1,), (9,), [1])],
)
def test_effective_kernel(kernel: tuple[int, ...], dilations: tuple[int, ...], extents: list[int]) -> None:
    assert effective_kernel(kernel, dilations) == extents


@pytest.mark.parametrize(
    ("auto_pad", "pads", "begins", "ends"),
    [
        ("NOTSET", None, [0, 0], [0, 0]),
        ("NOTSET", (1, 2, 3, 4), [1, 2], [3, 4]),
        ("VALID", (1, 2, 3, 4), [0, 0], [0, 0]),
        ("SAME_UPPER", None, [0, 1], [1, 1]),
        ("SAME_LOWER", None, [1, 1], [0, 1]),
    ],
)
def test_the_four_ways_to_say_padding(
    auto_pad: str, pads: tuple[int, ...] | None, begins: list[int], ends: list[int]
) -> None:
    assert resolve_padding(auto_pad, pads, (6, 7), (2, 3), (1, 1)) == (begins, ends)


@given(size=SIZES, extent=SMALL, stride=SMALL, upper=st.booleans())
def test_same_padding_makes_the_size_that_it_promises(size: int, extent: int, stride: int, upper: bool) -> None:
    how = "SAME_UPPER" if upper else "SAME_LOWER"
    (begin,), (end,) = resolve_padding(how, None, (size,), (extent,), (stride,))
    assert (size + begin + end - extent) // stride + 1 == -(-size // stride)
    assert 0 <= (end - begin if upper else begin - end) <= 1


def test_torch_wants_the_last_axis_first() -> None:
    pad = as_torch_pad([1, 2], [3, 4])
    assert pad == [2, 4, 1, 3]
    assert torch.nn.functional.pad(torch.zeros(1, 1, 5, 6), pad).shape == (1, 1, 9, 12)


def test_ints_are_python_numbers() -> None:
    found = ints(torch.tensor([3, -1], dtype=torch.int32))
    assert found == [3, -1]
    assert all(type(number) is int for number in found)


def test_a_transposed_convolution_that_crops_nothing_has_no_crop_in_its_backward() -> None:
    x, weight = torch.ones(1, 2, 3, 3, requires_grad=True), torch.ones(2, 1, 2, 2)
    whole = conv_transpose(x, weight, strides=(2, 2))
    assert whole.grad_fn is not None
    assert "Convolution" in whole.grad_fn.name()
    cropped = conv_transpose(x, weight, strides=(2, 2), pads=(0, 0, 1, 0))
    assert torch.equal(cropped, whole[:, :, :-1])
