"""Fake quantization with learned scales: LSQ (arXiv 1902.08153), LSQ+ (2004.09576) and PACT (1805.06085).

The scale is learned as its logarithm: a step changes it by a share of itself, whatever the range of the value, and it
stays positive. LSQ's factor 1 / sqrt(n * levels) on the scale's gradient is left out: optimisers of Adam's kind divide
it out again, and in float32 it pushes the gradients of large tensors below their epsilon.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ocrslim.slimming.parts import dot, in_parts
from ocrslim.slimming.quantization.numerics import along_axis
from ocrslim.spec import PerAxis, QuantizationSpec

__all__ = ["ChannelBias", "FakeQuantizer"]

Mode = Literal["float", "quantize"]
HALVES = (torch.float16, torch.bfloat16)


class FakeQuantizer(nn.Module):
    """Rounds a tensor to the grid of its integers, and lets gradients through.

    Args:
        spec: the grid.
        scale: initial scale, ``[1]`` or ``[channels]``, positive.
        zero_point: whole numbers of the same shape.
        learn_zero_point: LSQ+: the zero point moves by the values that are clipped. Per tensor only.
        pact: the scale's gradient is that of PACT's clipping bound: values inside the range do not move it.
        factor: positive, in a shape that broadcasts against the tensor, of its rank: the grid is that of the tensor
            divided by it. It is fixed.

    Attributes:
        mode: ``quantize``; ``float`` passes the tensor on.
        codes: the fixed integers of a weight, see :meth:`fix_codes`; ``None`` rounds what comes in.
        at_output: whether the scales of fixed integers get their gradient where the weight is read, see
            :class:`ocrslim.slimming.quantization.scale_gradient.ScaleGradient`.

    >>> from ocrslim.spec import PerTensor
    >>> spec = QuantizationSpec(8, signed=False, symmetric=False, granularity=PerTensor())
    >>> FakeQuantizer(spec, torch.tensor([0.5]), torch.tensor([10]))(torch.tensor([-9.0, 0.2, 0.3])).tolist()
    [-5.0, 0.0, 0.5]
    """

    def __init__(
        self,
        spec: QuantizationSpec,
        scale: Tensor,
        zero_point: Tensor,
        *,
        learn_zero_point: bool = False,
        pact: bool = False,
        factor: Tensor | None = None,
    ) -> None:
        super().__init__()
        if learn_zero_point and (spec.symmetric or isinstance(spec.granularity, PerAxis) or factor is not None):
            raise ValueError("a zero point is learned for asymmetric values with one scale only")
        if not bool((scale > 0).all()):
            raise ValueError("a scale must be positive")
        self.spec = spec
        self.pact = pact
        self.mode: Mode = "quantize"
        self.at_output = False
        self.log_scale = nn.Parameter(scale.detach().float().log())
        self.zero_point: Tensor
        self.codes: Tensor | None
        self.register_buffer("codes", None)
        self.factor: Tensor | None
        self.register_buffer("factor", factor)
        if learn_zero_point:
            self.zero_point = nn.Parameter(zero_point.detach().float())
        else:
            self.register_buffer("zero_point", zero_point.detach().float())

    @property
    def scale(self) -> Tensor:
        """The scale, ``[1]`` or ``[channels]``, of a tensor that was divided by the factor."""
        return self.log_scale.detach().exp()

    @property
    def whole_zero_point(self) -> Tensor:
        """The zero point as the engine will have it: whole and on the grid."""
        return self.zero_point.detach().round().clamp(self.spec.quant_min, self.spec.quant_max)

    @torch.no_grad()
    def set_grid(self, scale: Tensor, zero_point: Tensor | None = None) -> None:
        """Replace scale and, where given, zero point; shapes as at construction."""
        self.log_scale.copy_(scale.log())
        if zero_point is not None:
            self.zero_point.copy_(zero_point)

    @torch.no_grad()
    def fix_codes(self, weight: Tensor) -> None:
        """Keep the integers of ``weight`` from now on, whatever comes in: only the scales still learn.

        Rounding that was chosen with care is undone by training that moves weights across the bounds between integers.
        """
        codes = torch.round(weight / self._unit(weight.dim()))
        self.codes = codes.clamp_(self.spec.quant_min, self.spec.quant_max).to(torch.int8)

    @torch.no_grad()
    def settled(self) -> Tensor:
        """Return the weight that the fixed integers stand for, and round again what comes in from now on."""
        if self.codes is None:
            raise RuntimeError("no integers were fixed")
        weight = self.codes * self._unit(self.codes.dim())
        self.codes = None
        return weight

    @property
    def held(self) -> bool:
        """Whether :meth:`forward` returns fixed integers' weight without a gradient, see :attr:`at_output`."""
        return self.at_output and self.codes is not None and self.mode == "quantize"

    def divided(self, x: Tensor) -> Tensor:
        """Return ``x`` in the units of the grid's scale: divided by the factor, where there is one."""
        return x if self.factor is None else x / self.factor

    def _unit(self, rank: int) -> Tensor:
        """Return what one step of the grid is worth, in a shape that broadcasts against a tensor of ``rank``."""
        scale = along_axis(self.log_scale.exp(), rank, self.spec)
        return scale if self.factor is None else scale * self.factor

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid, in its own shape."""
        if self.mode == "float":
            return x
        if x.dtype in HALVES:  # under autocast: the grid and its gradients need f32
            x = x.float()
        if self.codes is not None:
            weight = self.codes * self._unit(x.dim())
            return weight.detach() if self.held else weight
        if isinstance(self.spec.granularity, PerAxis):
            result: Tensor = _PerAxisRound.apply(x, self.log_scale, self.factor, self.spec)  # type: ignore[no-untyped-call]
        else:
            zero_point = self.zero_point if self.zero_point.requires_grad else None
            offset = int(self.whole_zero_point.item())
            bounds = (self.spec.quant_min - offset, self.spec.quant_max - offset)
            result = _PerTensorRound.apply(x, self.log_scale, self.factor, zero_point, bounds, self.pact)  # type: ignore[no-untyped-call]
        return result

    def extra_repr(self) -> str:
        """Say what the grid is."""
        return f"{self.spec.bits} bits, {'signed' if self.spec.signed else 'unsigned'}, {self.spec.granularity}"


class ChannelBias(nn.Module):
    """Adds a learned constant to each channel: the bias of a convolution whose graph gives it none.

    Bias correction needs a place to put its shift, and OpenVINO 2026 dequantizes the output of an int8 convolution
    without a bias twice where a pooling reads it.

    Args:
        channels: length of the bias.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` ``[N, C, *sizes]`` plus the bias."""
        return x + self.bias.reshape(-1, *([1] * (x.dim() - 2)))


class _PerTensorRound(torch.autograd.Function):
    """``y = s * clip(round(x / s), low, high)`` with ``s = exp(log_scale)``, a part at a time.

    With g the gradient of y and inside where x lies in the range:
    dx = g where inside, else 0;
    dlog_scale = sum(g * (y - x) inside, g * y outside) = <g, y> - <dx, x>;
    PACT: dlog_scale = sum(g * y outside) = <g, y> - <dx, y>;
    dzero_point = sum(-s * g outside).
    With a factor, s is ``exp(log_scale) * factor``, and all but the last stays the same.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        log_scale: Tensor,
        factor: Tensor | None,
        zero_point: Tensor | None,
        bounds: tuple[int, int],
        pact: bool,
    ) -> Tensor:
        scale = log_scale.exp().reshape(())
        y = _rounded(x, scale if factor is None else scale * factor, bounds)
        ctx.save_for_backward(x, y, log_scale, factor)
        ctx.bounds, ctx.pact = bounds, pact
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, log_scale, factor = ctx.saved_tensors
        scale = log_scale.exp().item()
        low, high = (bound * scale for bound in ctx.bounds)
        wanted, of_scale, of_zero_point = ctx.needs_input_grad, log_scale.new_zeros(()), log_scale.new_zeros(())
        inside = torch.empty_like(x) if wanted[0] else None
        tensors = (gradient, x, y) if inside is None else (gradient, x, y, inside)
        for slope, before, after, *result in in_parts(*tensors) if factor is None else [tensors]:
            # The backward of Hardtanh: the gradient where low < x < high, in one pass without a mask in memory.
            limited = before if factor is None else before / factor
            passed = result[0] if result else torch.empty_like(before)
            torch.ops.aten.hardtanh_backward.grad_input(slope, limited, low, high, grad_input=passed)
            if wanted[1]:
                of_scale += dot(slope, after) - dot(passed, after if ctx.pact else before)
            if wanted[3]:
                of_zero_point -= scale * (slope.sum() - passed.sum())
        shape = log_scale.shape
        found = of_scale.reshape(shape) if wanted[1] else None, of_zero_point.reshape(shape) if wanted[3] else None
        return inside, found[0], None, found[1], None, None


class _PerAxisRound(torch.autograd.Function):
    """The same with a scale for each channel and zero point 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor, factor: Tensor | None, spec: QuantizationSpec) -> Tensor:
        unit = along_axis(log_scale.exp(), x.dim(), spec)
        unit = unit if factor is None else unit * factor
        y = _rounded(x, unit, (spec.quant_min, spec.quant_max))
        ctx.save_for_backward(x, y, unit)
        ctx.spec = spec
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, unit = ctx.saved_tensors
        spec: QuantizationSpec = ctx.spec
        outside = (x < unit * spec.quant_min).logical_or_(x > unit * spec.quant_max)
        inside = gradient.masked_fill(outside, 0.0)
        of_scale = None
        if ctx.needs_input_grad[1]:
            assert isinstance(spec.granularity, PerAxis)
            others = [axis for axis in range(x.dim()) if axis != spec.granularity.axis]
            of_scale = (gradient * y).addcmul_(inside, x, value=-1).sum(others)
        return inside if ctx.needs_input_grad[0] else None, of_scale, None, None


def _rounded(x: Tensor, unit: Tensor, bounds: tuple[int, int]) -> Tensor:
    """Return ``unit * clip(round(x / unit), *bounds)``; with one unit, a part at a time."""
    y = torch.empty_like(x)
    for part, result in in_parts(x, y) if unit.dim() == 0 else [(x, y)]:
        torch.div(part, unit, out=result).round_().clamp_(*bounds).mul_(unit)
    return y
