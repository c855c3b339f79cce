"""Rounding weights so that the outputs stay, not so that each weight moves least.

Rounding to nearest is not best (AdaRound, arXiv 2004.10568): errors of weights that work together can cancel. Optimal
brain quantization (2208.11580), in the order and with the Cholesky factor of GPTQ (2210.17323), does in closed form
what AdaRound learns: it rounds one input after the other, and the inputs not yet rounded make good what was lost, by
the covariance of the inputs. No labels, no gradients; a second for a site.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ocrslim.slimming.quantization.numerics import fake_quantize
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.quantization.samples import input_factors, weight_matrix

__all__ = ["round_to_outputs", "round_weights"]

BLOCK = 128  # inputs whose errors are passed on to the later ones together
DAMPING = 0.01  # share of the mean variance that is added to each: samples are few


@torch.no_grad()
def round_weights(quantization: Quantization, samples: Mapping[str, Tensor]) -> None:
    """Round the weights of every site by its samples and correct its bias by the mean that is left.

    Args:
        quantization: calibrated; its module's weights are put on their grids, where the fake quantizers leave them.
        samples: see :func:`ocrslim.slimming.quantization.samples.collect_samples`. A weight that several sites read is
            rounded by the first one's.
    """
    rounded: set[str] = set()
    for site in quantization.placement.sites:
        if site.weight_name in rounded:
            continue
        rounded.add(site.weight_name)
        quantizer, activation = quantization.weights[site.weight_name], quantization.activations[site.input_value]
        weight = weight_matrix(quantization.module.parameter(site.weight_name), site)
        factors = input_factors(quantization, site)
        inputs = fake_quantize(
            samples[site.node] / factors, activation.scale, activation.whole_zero_point, activation.spec
        )
        before = weight * factors
        bounds = (quantizer.spec.quant_min, quantizer.spec.quant_max)
        if site.kind == "depthwise":
            after = _round_channels(before, inputs, quantizer.scale, bounds)
            shift = ((after - before) * inputs.mean(0)).sum(1)
        else:
            after = round_to_outputs(before, inputs, quantizer.scale, bounds)
            shift = (after - before) @ inputs.mean(0)
        weight.copy_(after / factors)
        bias = quantization.bias(site)
        if bias is not None:
            bias.sub_(shift.reshape(bias.shape))
    quantization.floor_weight_scales()


def round_to_outputs(
    weight: Tensor, inputs: Tensor, scale: Tensor, bounds: tuple[int, int], damping: float = DAMPING
) -> Tensor:
    """Return ``weight`` on its grid, rounded so that ``inputs @ weight.T`` changes little, but for its mean.

    Args:
        weight: ``[outputs, n]``.
        inputs: ``[rows, n]``; centred here, since a bias takes the mean.
        scale: of the grid, ``[outputs]`` or ``[1]``.
        bounds: least and largest integer of the grid.
        damping: share of the mean variance that is added to each input's.

    Returns:
        Tensor: ``[outputs, n]``, multiples of ``scale``.
    """
    centred = inputs.double()
    centred -= centred.mean(0)
    variance = centred.square().mean(0)
    order = torch.argsort(variance, descending=True)  # the loudest first: the others can still make good for them
    factor = _factor(centred[:, order], damping * variance.mean().clamp_min(1e-12).item())
    left = weight[:, order].clone()
    grid = torch.empty_like(left)
    for start in range(0, left.shape[1], BLOCK):
        block = left[:, start : start + BLOCK]
        errors = torch.empty_like(block)
        rows = factor[start : start + BLOCK]
        for index in range(block.shape[1]):
            column, row = block[:, index], rows[index, start:]
            rounded = torch.round(column / scale).clamp_(*bounds) * scale
            grid[:, start + index] = rounded
            errors[:, index] = (column - rounded) / row[index]
            block[:, index + 1 :] -= errors[:, index : index + 1] * row[index + 1 : block.shape[1]]
        left[:, start + BLOCK :] -= errors @ rows[:, start + BLOCK :]
    result = torch.empty_like(grid)
    result[:, order] = grid
    return result


def _round_channels(weight: Tensor, inputs: Tensor, scale: Tensor, bounds: tuple[int, int]) -> Tensor:
    """Round each channel of a depthwise convolution by its own inputs.

    Args:
        weight: ``[channels, n]``.
        inputs: ``[rows, channels, n]``.
        scale: ``[channels]`` or ``[1]``.
        bounds: see :func:`round_to_outputs`.
    """
    rounded = [
        round_to_outputs(weight[c : c + 1], inputs[:, c], scale[c : c + 1] if len(scale) > 1 else scale, bounds)
        for c in range(len(weight))
    ]
    return torch.cat(rounded)


def _factor(centred: Tensor, damping: float) -> Tensor:
    """Return the upper Cholesky factor of the inverse covariance: row i says how inputs after i answer for it.

    Where there are more inputs n than samples, the inverse comes from a matrix of the samples (Woodbury): a third of
    the time. Of 9,216 inputs (the widest convolution of PP-OCRv3 rec) an n x n matrix takes 680 MB in f64, so that no
    more than two are held at once.

    Args:
        centred: f64 ``[rows, n]``.
        damping: added to each variance.
    """
    rows, inputs = centred.shape
    if rows < inputs:
        kernel = centred @ centred.t() / rows
        kernel.diagonal().add_(damping)
        half = torch.linalg.solve_triangular(torch.linalg.cholesky(kernel), centred, upper=False)
        inverse = half.t() @ half
        inverse /= -rows * damping
        inverse.diagonal().add_(1.0 / damping)
    else:
        inverse = centred.t() @ centred
        inverse /= rows
        inverse.diagonal().add_(damping)
        inverse = torch.linalg.cholesky(inverse)
        inverse = torch.cholesky_inverse(inverse)
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    del inverse
    return upper.float()
