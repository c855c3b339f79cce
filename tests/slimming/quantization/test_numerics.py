"""The closed forms against ONNX Runtime's QuantizeLinear and DequantizeLinear, and against their own bounds."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrslim.slimming.quantization.numerics import (
    along_axis,
    dequantize,
    fake_quantize,
    quantize,
    scale_and_zero_point,
)
from ocrslim.spec import PerAxis, PerTensor, QuantizationSpec

U8 = QuantizationSpec(8, signed=False, symmetric=False, granularity=PerTensor())
S8 = QuantizationSpec(8, signed=True, symmetric=True, granularity=PerAxis(0))
S7 = QuantizationSpec(7, signed=True, symmetric=True, granularity=PerAxis(1))


def engine(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what ONNX Runtime makes of x: integers, and the reals they stand for."""
    graph = onnx.parser.parse_graph("g (float[N] x) => (uint8 q, float y) {}")
    del graph.input[:], graph.output[:]
    kind = onnx.helper.np_dtype_to_tensor_dtype(zero_point.dtype)
    graph.input.append(onnx.helper.make_tensor_value_info("x", 1, list(x.shape)))
    graph.output.append(onnx.helper.make_tensor_value_info("q", kind, None))
    graph.output.append(onnx.helper.make_tensor_value_info("y", 1, None))
    graph.initializer.append(onnx.numpy_helper.from_array(scale, "s"))
    graph.initializer.append(onnx.numpy_helper.from_array(zero_point, "z"))
    graph.node.append(onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis))
    graph.node.append(onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    integers, reals = session.run(None, {"x": x})
    return integers, reals


@pytest.mark.parametrize("seed", range(5))
def test_per_tensor_equals_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(3, 4, 5)) * 3).astype(np.float32)
    scale, zero_point = np.float32(rng.uniform(0.01, 0.05)), np.uint8(rng.integers(0, 256))
    integers, reals = engine(x, np.array(scale), np.array(zero_point), 1)
    ours = quantize(torch.from_numpy(x), torch.tensor([scale]), torch.tensor([float(zero_point)]), U8)
    assert ours.dtype == torch.uint8
    np.testing.assert_array_equal(ours.numpy(), integers)
    back = dequantize(ours, torch.tensor([scale]), torch.tensor([float(zero_point)]), U8)
    np.testing.assert_allclose(back.numpy(), reals, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_per_axis_equals_onnxruntime(axis: int) -> None:
    rng = np.random.default_rng(axis)
    x = rng.normal(size=(4, 6)).astype(np.float32)
    scale = rng.uniform(0.005, 0.02, x.shape[axis]).astype(np.float32)
    spec = QuantizationSpec(8, signed=True, symmetric=True, granularity=PerAxis(axis))
    integers, reals = engine(x, scale, np.zeros(len(scale), np.int8), axis)
    ours = quantize(torch.from_numpy(x), torch.from_numpy(scale), torch.zeros(len(scale)), spec)
    assert ours.dtype == torch.int8
    np.testing.assert_array_equal(ours.numpy(), integers)
    back = fake_quantize(torch.from_numpy(x), torch.from_numpy(scale), torch.zeros(len(scale)), spec)
    np.testing.assert_allclose(back.numpy(), reals, rtol=1e-6)


def test_ties_go_to_even() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert quantize(x, torch.ones(1), torch.zeros(1), QuantizationSpec(8, True, True, PerTensor())).tolist() == [
        *(-2, -2, 0, 0, 2, 2)
    ]


def test_seven_bits_stay_within_seven_bits() -> None:
    q = quantize(torch.tensor([[-9.0, 9.0]]), torch.full((2,), 0.01), torch.zeros(2), S7)
    assert q.tolist() == [[-64, 63]]


@given(low=st.floats(-1e4, 1e4), width=st.floats(1e-3, 1e4), point=st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_values_in_the_range_are_within_half_a_step(low: float, width: float, point: float) -> None:
    ends = torch.tensor([low], dtype=torch.float64), torch.tensor([low + width], dtype=torch.float64)
    scale, zero_point = scale_and_zero_point(*ends, U8)
    x = torch.tensor([low + point * width], dtype=torch.float64)
    error = (fake_quantize(x, scale, zero_point, U8) - x).abs()
    # The zero point is rounded too, which can push one end out by half a step.
    assert error.item() <= scale.item() * 1.001


@given(low=st.floats(-1e3, 1e3), high=st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=100)
def test_zero_is_exact_on_every_grid(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    for spec in (U8, QuantizationSpec(8, True, True, PerTensor()), QuantizationSpec(8, False, True, PerTensor())):
        scale, zero_point = scale_and_zero_point(torch.tensor([low]), torch.tensor([high]), spec)
        assert scale.item() > 0
        assert fake_quantize(torch.zeros(1), scale, zero_point, spec).item() == 0.0


def test_a_symmetric_grid_covers_the_larger_side() -> None:
    scale, zero_point = scale_and_zero_point(torch.tensor([-6.3, -1.0]), torch.tensor([1.0, 12.6]), S7)
    assert scale.tolist() == pytest.approx([0.1, 0.2])
    assert zero_point.tolist() == [0.0, 0.0]


def test_quantizing_twice_changes_nothing() -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    scale = torch.full((5,), 0.03)
    once = fake_quantize(x, scale, torch.zeros(5), S8)
    assert torch.equal(fake_quantize(once, scale, torch.zeros(5), S8), once)


def test_parameters_broadcast_along_their_axis() -> None:
    assert along_axis(torch.ones(3), 4, S8).shape == (3, 1, 1, 1)
    assert along_axis(torch.ones(3), 2, S7).shape == (1, 3)
    assert along_axis(torch.ones(1), 4, U8).shape == ()
