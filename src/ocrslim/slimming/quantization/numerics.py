"""The arithmetic of quantization as closed forms: ``real = scale * (integer - zero_point)``, ties to even.

As in ONNX ``QuantizeLinear`` and ``DequantizeLinear``. Scale and zero point have shape ``[1]`` for
:class:`~ocrslim.spec.PerTensor` and ``[d_axis]`` for :class:`~ocrslim.spec.PerAxis`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ocrslim.spec import PerAxis, QuantizationSpec

__all__ = ["along_axis", "dequantize", "fake_quantize", "quantize", "scale_and_zero_point"]

SMALLEST_SCALE = 1e-9  # of a tensor that is all zero: any scale is right, but 0 and denormals break engines


def along_axis(parameter: Tensor, rank: int, spec: QuantizationSpec) -> Tensor:
    """Return a scale or zero point in the shape that broadcasts against a tensor of ``rank`` dimensions.

    >>> from ocrslim.spec import PerAxis
    >>> spec = QuantizationSpec(8, True, True, PerAxis(1))
    >>> along_axis(torch.ones(5), 3, spec).shape
    torch.Size([1, 5, 1])
    """
    if isinstance(spec.granularity, PerAxis):
        return parameter.reshape([-1 if axis == spec.granularity.axis else 1 for axis in range(rank)])
    return parameter.reshape(())


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantizationSpec) -> Tensor:
    """Return ``saturate(round(x / scale) + zero_point)``.

    Args:
        x: real values of any shape.
        scale: positive.
        zero_point: whole numbers, of any type.
        spec: the grid.

    Returns:
        Tensor: int8 or uint8, shape of ``x``.

    >>> from ocrslim.spec import PerTensor
    >>> spec = QuantizationSpec(8, False, False, PerTensor())
    >>> quantize(torch.tensor([-9.0, 0.0, 0.5, 1.5, 999.0]), torch.ones(1), torch.tensor([3]), spec).tolist()
    [0, 3, 3, 5, 255]
    """
    rounded = torch.round(x / along_axis(scale, x.dim(), spec)) + along_axis(zero_point, x.dim(), spec)
    return rounded.clamp(spec.quant_min, spec.quant_max).to(torch.int8 if spec.signed else torch.uint8)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantizationSpec) -> Tensor:
    """Return the real values that the integers ``q`` stand for, in the type of ``scale``."""
    return (q.to(scale.dtype) - along_axis(zero_point, q.dim(), spec)) * along_axis(scale, q.dim(), spec)


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantizationSpec) -> Tensor:
    """Return ``dequantize(quantize(x))``: real values on the grid of the integers. Not differentiable."""
    return dequantize(quantize(x, scale, zero_point, spec), scale, zero_point, spec)


def scale_and_zero_point(low: Tensor, high: Tensor, spec: QuantizationSpec) -> tuple[Tensor, Tensor]:
    """Return the grid that covers ``[low, high]``.

    The range is widened to hold 0, which padding needs to be exact.

    Args:
        low: shape ``[n]``.
        high: shape ``[n]``.
        spec: the grid; a symmetric one covers the larger of both sides.

    Returns:
        tuple: scale ``[n]`` and zero point ``[n]`` (whole numbers, float type).

    >>> from ocrslim.spec import PerTensor
    >>> spec = QuantizationSpec(8, False, False, PerTensor())
    >>> scale, zero_point = scale_and_zero_point(torch.tensor([-51.0]), torch.tensor([204.0]), spec)
    >>> scale.item(), zero_point.item()
    (1.0, 51.0)
    """
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    steps = spec.quant_max - spec.quant_min
    if spec.symmetric:
        middle = 0 if spec.signed else (spec.quant_max + 1) // 2
        scale = (torch.maximum(-low, high) / (spec.quant_max - middle)).clamp(min=SMALLEST_SCALE)
        return scale, torch.full_like(scale, middle)
    scale = ((high - low) / steps).clamp(min=SMALLEST_SCALE)
    return scale, (spec.quant_min - torch.round(low / scale)).clamp(spec.quant_min, spec.quant_max)
