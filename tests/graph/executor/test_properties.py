"""Operators against plain numpy, over inputs that no one chose."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrslim.graph.executor.ops import activation, arithmetic, convolution, normalization, pooling, resize, shape

SIZE = st.integers(1, 9)
BOUND = st.integers(-12, 12)


def t(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def draw(seed: int, *sizes: int) -> torch.Tensor:
    return torch.randn(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(size=SIZE, start=BOUND, end=BOUND, step=st.sampled_from([1, 2, 3, -1, -2, -5]))
def test_slice_is_pythons(size: int, start: int, end: int, step: int) -> None:
    x = torch.arange(size * 2.0).reshape(2, size)
    made = shape.slice_10(x, t(start), t(end), t(-1), t(step)).numpy()
    stop = None if step < 0 and end < -size else end
    np.testing.assert_array_equal(made, x.numpy()[:, start:stop:step])


@given(size=SIZE, low=st.integers(0, 8), high=st.integers(0, 8))
def test_slices_of_neighbours_join_to_the_whole(size: int, low: int, high: int) -> None:
    x = torch.arange(float(size))
    first, second = sorted((low, high))
    parts = [shape.slice_10(x, t(a), t(b), t(0)) for a, b in ((0, first), (first, second), (second, 2**62))]
    assert torch.equal(shape.concat(*parts, axis=0), x)


@given(sizes=st.lists(SIZE, min_size=1, max_size=4), place=st.integers(0, 4))
def test_unsqueeze_and_squeeze_undo_each_other(sizes: list[int], place: int) -> None:
    x = torch.arange(float(np.prod(sizes))).reshape(sizes)
    axis = min(place, len(sizes))
    wide = shape.unsqueeze_13(x, t(axis))
    assert wide.shape[axis] == 1
    assert torch.equal(shape.squeeze_13(wide, t(axis)), x)
    assert torch.equal(shape.squeeze_13(shape.unsqueeze_13(x, t(-1)), t(-1)), x)


@given(sizes=st.permutations([2, 3, 4]), order=st.permutations([0, 1, 2]))
def test_transposes_undo_each_other(sizes: list[int], order: list[int]) -> None:
    x = torch.arange(24.0).reshape(sizes)
    back = tuple(int(place) for place in np.argsort(order))
    assert torch.equal(shape.transpose(shape.transpose(x, perm=tuple(order)), perm=back), x)


@given(batch=SIZE, frames=SIZE)
def test_reshape_keeps_zeros_and_fills_minus_one(batch: int, frames: int) -> None:
    x = torch.arange(float(batch * frames * 12)).reshape(batch, frames, 12)
    made = shape.reshape(x, t(0, -1, 3, 4))
    assert made.shape == (batch, frames, 3, 4)
    assert torch.equal(made.flatten(), x.flatten())
    assert shape.reshape(torch.zeros(0, 3), t(3, 0), allowzero=1).shape == (3, 0)


@given(height=SIZE, width=SIZE, up=st.integers(1, 4), right=st.integers(1, 4))
def test_whole_factors_repeat_pixels(height: int, width: int, up: int, right: int) -> None:
    x = draw(0, 2, 3, height, width)
    factors = torch.tensor([1.0, 1.0, up, right])
    made = resize.resize_11(
        x, None, factors, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    np.testing.assert_array_equal(made.numpy(), x.numpy().repeat(up, axis=2).repeat(right, axis=3))
    assert torch.equal(resize.resize_10(x, factors), made)


@given(size=st.integers(2, 9), target=st.integers(2, 20))
def test_linear_resizing_with_aligned_corners_is_numpys_interpolation(size: int, target: int) -> None:
    x = draw(size, 1, size)
    made = resize.resize_11(x, None, None, t(1, target), mode="linear", coordinate_transformation_mode="align_corners")
    expected = np.interp(np.linspace(0, size - 1, target), np.arange(size), x[0].numpy())
    np.testing.assert_allclose(made[0].numpy(), expected, atol=1e-5)


@settings(max_examples=60)
@given(
    size=st.integers(1, 12),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    begin=st.integers(0, 3),
    end=st.integers(0, 3),
)
def test_a_convolution_is_its_definition(size: int, kernel: int, stride: int, begin: int, end: int) -> None:
    if size + begin + end < kernel:
        return
    x, weight = draw(1, 1, 2, size), draw(2, 3, 2, kernel)
    made = convolution.conv(x, weight, pads=(begin, end), strides=(stride,)).numpy()
    padded = np.pad(x.numpy()[0], ((0, 0), (begin, end)))
    places = range(0, padded.shape[1] - kernel + 1, stride)
    expected = [[(padded[:, p : p + kernel] * row).sum() for p in places] for row in weight.numpy()]
    np.testing.assert_allclose(made[0], expected, atol=1e-12)


@settings(max_examples=60)
@given(size=st.integers(1, 6), kernel=st.integers(1, 4), stride=st.integers(1, 3), crop=st.integers(0, 1))
def test_a_transposed_convolution_is_the_adjoint(size: int, kernel: int, stride: int, crop: int) -> None:
    """``<conv(u), v> = <u, conv_transpose(v)>`` for the same weight and padding."""
    length = stride * (size - 1) + kernel - 2 * crop
    if length < 1:
        return
    weight = draw(3, 3, 2, kernel)
    u, v = draw(4, 1, 2, length), draw(5, 1, 3, size)
    down = convolution.conv(u, weight, pads=(crop, crop), strides=(stride,))
    up = convolution.conv_transpose(v, weight, pads=(crop, crop), strides=(stride,))
    assert down.shape == v.shape
    assert up.shape == u.shape
    assert torch.allclose((down * v).sum(), (u * up).sum())


@settings(max_examples=60)
@given(size=st.integers(3, 12), kernel=st.integers(1, 3), stride=st.integers(1, 3), pad=st.integers(0, 1))
def test_pooling_is_its_definition(size: int, kernel: int, stride: int, pad: int) -> None:
    if pad >= kernel:
        return
    x = draw(6, 1, 1, size, 1)
    arguments = {"kernel_shape": (kernel, 1), "strides": (stride, 1), "pads": (pad, 0, pad, 0)}
    inside = [
        x.numpy()[0, 0, max(0, place) : min(size, place + kernel), 0]
        for place in range(-pad, size + pad - kernel + 1, stride)
    ]
    largest = pooling.max_pool(x, **arguments)[0, 0, :, 0]
    np.testing.assert_array_equal(largest.numpy(), [window.max() for window in inside])
    mean = pooling.average_pool(x, **arguments)[0, 0, :, 0]
    np.testing.assert_allclose(mean.numpy(), [window.mean() for window in inside], atol=1e-12)
    counted = pooling.average_pool(x, count_include_pad=1, **arguments)[0, 0, :, 0]
    np.testing.assert_allclose(counted.numpy(), [window.sum() / kernel for window in inside], atol=1e-12)


@given(st.floats(-50, 50))
def test_activations_are_their_formulas(number: float) -> None:
    x = torch.tensor(number, dtype=torch.float64)
    clipped = min(max(number + 3, 0.0), 6.0)
    assert activation.hard_swish(x).item() == np.float64(number * clipped / 6).item() or np.isclose(
        activation.hard_swish(x).item(), number * clipped / 6
    )
    assert np.isclose(activation.hard_sigmoid(x, alpha=1 / 6).item(), clipped / 6)
    assert np.isclose(activation.gelu(x).item(), number * 0.5 * (1 + torch.erf(x / 2**0.5).item()))
    assert activation.clip_11(x, torch.tensor(-1.0).double(), torch.tensor(2.0).double()).item() == min(
        max(number, -1), 2
    )
    assert activation.clip_6(x, min=-1.0, max=2.0).item() == min(max(number, -1), 2)


def test_crossed_bounds_give_the_upper_one() -> None:
    x = torch.tensor([-5.0, 0.0, 5.0])
    assert activation.clip_11(x, torch.tensor(2.0), torch.tensor(1.0)).tolist() == [1.0, 1.0, 1.0]


@given(a=st.integers(-30, 30), b=st.integers(1, 7))
def test_integers_are_divided_towards_zero(a: int, b: int) -> None:
    assert arithmetic.div(t(a), t(b)).item() == int(a / b)
    assert arithmetic.div(t(a), t(-b)).item() == int(a / -b)


def test_batch_normalisation_is_its_formula() -> None:
    x, scale, bias, mean = draw(1, 2, 3, 4), draw(2, 3), draw(3, 3), draw(4, 3)
    variance = draw(5, 3).square()
    made = normalization.batch_normalization(x, scale, bias, mean, variance, epsilon=0.1)
    middle = (x - mean[:, None]) / torch.sqrt(variance + 0.1)[:, None]
    assert torch.allclose(made, middle * scale[:, None] + bias[:, None])


def test_layer_normalisation_gives_its_statistics_on_request() -> None:
    x, scale = draw(1, 2, 3, 4), draw(2, 4)
    y, mean, inverse = normalization.layer_normalization(x, scale, axis=-1, epsilon=0.1, num_outputs=3)
    assert mean.shape == inverse.shape == (2, 3, 1)
    assert torch.allclose((x - mean) * inverse * scale, y)
    # A scale that is only broadcast over the normalised axes is allowed.
    assert torch.allclose(
        normalization.layer_normalization(x, scale[:1], axis=-1),
        (x - mean) * torch.rsqrt(x.var(-1, False, keepdim=True) + 1e-5) * scale[0],
    )
