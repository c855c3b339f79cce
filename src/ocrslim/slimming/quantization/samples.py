"""What the sites read: samples of their inputs as the rows of a matrix, so that each site is a matrix product.

With such samples, ranges and rounding can be chosen by the error of a site's output, without running the model again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ocrslim.graph.passes.base import attribute
from ocrslim.slimming.quantization.placement import Site
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.quantization.process_group import ALONE, ProcessGroup

__all__ = ["collect_samples", "input_factors", "weight_matrix"]

ROWS = 4096  # of one site: a covariance of up to some 1,500 inputs, in at most 25 MB
WIDTH = (
    1024  # numbers in a row of a depthwise site, whose channels are matrices of their own; wider ones give fewer rows
)


@torch.no_grad()
def collect_samples(
    quantization: Quantization,
    batches: Sequence[Tensor],
    rows: int = ROWS,
    seed: int = 0,
    group: ProcessGroup = ALONE,
) -> dict[str, Tensor]:
    """Run the float model and keep random rows of what each site multiplies its weights with.

    Args:
        quantization: its quantizers are off meanwhile, and on afterwards.
        batches: ``[N, 3, H, W]`` each; every one gives as many rows.
        rows: of one site, at most.
        seed: of the choice.
        group: processes that run a part of the batches each; all have to call it.

    Returns:
        dict: node of a site -> f32 ``[rows, inputs]``; the inputs are in the order of :func:`weight_matrix`'s columns.
        Of a depthwise site ``[rows, channels, inputs]``, in fewer rows. Empty on other processes than the first.

    Raises:
        ValueError: there were no batches.
    """
    sites = quantization.placement.sites
    values = tuple(dict.fromkeys(site.input_value for site in sites))
    if not batches:
        raise ValueError("there were no batches to take samples of")
    count = rows // len(batches)
    parts: dict[str, list[Tensor]] = {site.node: [] for site in sites}

    def taken(index: int) -> dict[str, Tensor]:
        own = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)  # the batch's, whoever runs it
        generator = torch.Generator().manual_seed(int(own[0]))
        found = quantization.module(batches[index], fetch=values)
        return {site.node: _rows(quantization, site, found[site.input_value], count, generator) for site in sites}

    quantization.set_mode("float")
    try:
        for turn in range(0, len(batches), group.size):
            index = turn + group.rank
            for found in group.gather_tensors(taken(index) if index < len(batches) else {}):
                for node in found:
                    parts[node].append(found[node])
    finally:
        quantization.set_mode("quantize")
    return {node: torch.cat(tensors) for node, tensors in parts.items() if tensors}


def weight_matrix(weight: Tensor, site: Site) -> Tensor:
    """Return a site's weight as a view ``[output channels, inputs]``."""
    if site.kind in ("conv", "depthwise"):
        return weight.flatten(1)
    return weight.t() if site.weight_axis == 1 else weight


def input_factors(quantization: Quantization, site: Site) -> Tensor:
    """Return what each input of a site is divided by, and its weight multiplied, before both are quantized.

    Returns:
        Tensor: ``[inputs]`` in the order of :func:`weight_matrix`'s columns, or ``[1]`` of 1 where there are none. Of a
        depthwise site ``[channels, 1]``.
    """
    factor = quantization.factors.get(site.input_value)
    if factor is None:
        return torch.ones(1)
    if site.kind == "depthwise":
        return factor[:, None]
    columns = weight_matrix(quantization.module.parameter(site.weight_name), site).shape[1]
    return factor.repeat_interleave(columns // len(factor))  # each channel has a column for each tap of the kernel


def _rows(quantization: Quantization, site: Site, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` random rows of what ``x`` is multiplied as, or all of them where there are fewer."""
    if site.kind == "depthwise":
        channels, taps = x.shape[1], quantization.module.parameter(site.weight_name)[0].numel()
        count = max(1, min(count, count * WIDTH // (channels * taps)))
    if site.kind not in ("conv", "depthwise"):
        matrix = x.reshape(-1, x.shape[-1])
    else:
        kernel = tuple(quantization.module.parameter(site.weight_name).shape[2:])
        strides, dilations, pads = _window(quantization, site, kernel)
        if kernel == (1, 1):
            x = x[:, :, :: strides[0], :: strides[1]]
            matrix = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        else:
            x = _cropped(F.pad(x, pads), kernel, count, generator)
            columns = F.unfold(x, kernel, dilation=dilations, stride=strides)
            matrix = columns.transpose(1, 2).reshape(-1, columns.shape[1])
    if site.kind == "depthwise":
        matrix = matrix.reshape(len(matrix), channels, taps)
    if len(matrix) <= count:
        return matrix.clone()
    return matrix[torch.randperm(len(matrix), generator=generator)[:count]]


def _cropped(x: Tensor, kernel: tuple[int, ...], count: int, generator: torch.Generator) -> Tensor:
    """Return a random band of rows of a large map: unfolding all of it would take kernel-size times its memory."""
    need = max(kernel[0], -(-8 * count // (x.shape[0] * x.shape[3])) + kernel[0])
    if need >= x.shape[2]:
        return x
    top = int(torch.randint(x.shape[2] - need, (1,), generator=generator))
    return x[:, :, top : top + need]


def _window(
    quantization: Quantization, site: Site, kernel: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """Return strides, dilations and the padding (left, right, top, bottom) of a convolution."""
    node = next(node for node in quantization.module.model.graph if node.name == site.node)
    strides, dilations = (attribute(node, name, [1, 1]) for name in ("strides", "dilations"))
    pads = attribute(node, "pads", None)
    if pads is None:  # SAME of a stride that divides the size; samples need it no more exactly
        spare = [(size - 1) * step for size, step in zip(kernel, dilations, strict=True)]
        wanted = attribute(node, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
        pads = [spare[0] // 2, spare[1] // 2, -(-spare[0] // 2), -(-spare[1] // 2)] if wanted else [0, 0, 0, 0]
    top, left, bottom, right = (int(pad) for pad in pads)
    return (int(strides[0]), int(strides[1])), (int(dilations[0]), int(dilations[1])), (left, right, top, bottom)
