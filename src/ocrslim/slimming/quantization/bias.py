"""Empirical bias correction: rounding weights shifts the mean of each output channel; the bias takes the shift back.

After section 4.2 of arXiv 1906.04721, with measured instead of derived means.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ocrslim.slimming.quantization.placement import Site
from ocrslim.slimming.quantization.prepare import Quantization

__all__ = ["correct_bias"]


@torch.no_grad()
def correct_bias(quantization: Quantization, batches: Iterable[Tensor]) -> int:
    """Add to each bias what the mean of its channel lost by quantization.

    Each batch runs through the float and the quantized model. In the quantized one the shift is taken back on the
    spot, so that a site sees its inputs as they will be once all sites before it are corrected: one run does what
    correcting the sites one by one would.

    Args:
        quantization: calibrated; the biases of its module are changed in place.
        batches: ``[N, 3, H, W]`` each.

    Returns:
        int: number of sites corrected. One whose bias is shared, or a product without one, has nowhere to put the shift.
    """
    shifts = {site: _Shift(site) for site in quantization.placement.sites if quantization.bias(site) is not None}
    try:
        quantization.install({site.raw_output: shift for site, shift in shifts.items()})
        for batch in batches:
            quantization.set_mode("float")
            _run(quantization, shifts.values(), batch, recording=True)
            quantization.set_mode("quantize")
            _run(quantization, shifts.values(), batch, recording=False)
    finally:
        quantization.set_mode("quantize")
        quantization.install()
    for site, shift in shifts.items():
        bias = quantization.bias(site)
        assert bias is not None
        bias += shift.mean().reshape(bias.shape).to(bias.dtype)
    quantization.floor_weight_scales()
    return len(shifts)


def _run(quantization: Quantization, shifts: Iterable[_Shift], batch: Tensor, recording: bool) -> None:
    for shift in shifts:
        shift.recording = recording
    quantization.module(batch)


class _Shift(nn.Module):
    """Notes the mean of each channel of one site in the float model, and restores it in the quantized one."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.recording = True
        self._axis = 1 if site.kind == "conv" else -1
        self._wanted = torch.zeros(0)
        self._sum = torch.zeros(0)
        self._batches = 0

    def mean(self) -> Tensor:
        """Return the mean shift of each channel over the batches, ``[channels]``."""
        if not self._batches:
            raise ValueError("there were no batches to correct the biases on")
        return self._sum / self._batches

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` ``[N, C, H, W]`` or ``[..., C]``, shifted unless recording."""
        axis = self._axis % x.dim()
        present = x.mean([dimension for dimension in range(x.dim()) if dimension != axis])
        if self.recording:
            self._wanted = present
            return x
        shift = self._wanted - present
        self._sum = shift if not self._batches else self._sum + shift
        self._batches += 1
        return x + shift.reshape([-1 if dimension == axis else 1 for dimension in range(x.dim())])
