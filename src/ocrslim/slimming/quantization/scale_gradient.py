"""The gradients of a weight's scales and of the bias, taken at the output of the operator that reads them.

With the integers fixed, an output channel is the scale times a sum that no learned value is in, and the bias:
``y = s * (codes * x) + b``. So the gradient of ``log(s)`` is ``<g, y - b>`` over all but the channels, and that of the
bias is ``sum(g)``: two passes over the output in place of the weight's gradient, a third of the products of a step of a
convolution. The numbers are the same but for rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ocrslim.slimming.parts import channel_sums
from ocrslim.slimming.quantization.fake_quantizer import FakeQuantizer

__all__ = ["HeldBias", "ScaleGradient"]


class ScaleGradient(nn.Module):
    """Passes the output of an operator on, and gives the scales of its weight, and its bias, their gradients.

    While the integers aren't fixed it does nothing. The quantizer and the bias are not registered: the graph has them.

    Args:
        quantizer: of the weight, which leaves its gradient to this one where :attr:`FakeQuantizer.at_output` is set.
        bias: ``[channels]``, that the operator itself adds, see :class:`HeldBias`.
        axis: of the output's channels.
    """

    def __init__(self, quantizer: FakeQuantizer, bias: nn.Parameter | None, axis: int) -> None:
        super().__init__()
        self._of = (quantizer, bias)
        self.axis = axis

    def forward(self, y: Tensor) -> Tensor:
        """Return ``y``."""
        quantizer, bias = self._of
        if not quantizer.held or not torch.is_grad_enabled():
            return y
        result: Tensor = _AtOutput.apply(y, quantizer.log_scale, bias, self.axis)  # type: ignore[no-untyped-call]
        return result


class HeldBias(nn.Module):
    """Passes a bias on, without a gradient while :class:`ScaleGradient` gives it one.

    Args:
        quantizer: of the weight that the same operator reads.
    """

    def __init__(self, quantizer: FakeQuantizer) -> None:
        super().__init__()
        self._of = (quantizer,)

    def forward(self, bias: Tensor) -> Tensor:
        """Return ``bias``."""
        return bias.detach() if self._of[0].held else bias


class _AtOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, log_scale: Tensor, bias: Tensor | None, axis: int) -> Tensor:
        ctx.save_for_backward(y, bias)
        ctx.axis = axis
        return y.view_as(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if not any(ctx.needs_input_grad[1:3]):
            return gradient, None, None, None
        y, bias = ctx.saved_tensors
        # What was added is the bias in the type of the output.
        of_scale, of_bias = channel_sums(gradient, y, ctx.axis, None if bias is None else bias.to(y.dtype))
        return gradient, of_scale, None if bias is None else of_bias, None
