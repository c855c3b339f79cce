"""A scale for each channel of an activation, though the integers are multiplied with one scale for all.

The channels of an activation have ranges of their own, and one scale for all gives a narrow one few of the integers.
A convolution sums over channels, so its int8 kernel can't take a scale for each. But each channel can be divided by a
factor of its own when it is quantized, and the weights that read it multiplied by that factor before they become
integers: the product stays, and only the node that quantizes knows. The weights take the spread of the channels, which
rounding by covariance (:mod:`.rounding`) can bear: in PP-OCR recognisers nearly all of the error is the activations'.
As SmoothQuant (arXiv 2211.10438), but at the activation itself, so that it needs no layer before it to take the factor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir
import torch
from torch import Tensor

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.placement import Placement
from ocrslim.spec import QuantizationSpec

__all__ = ["factors_of", "find_factors"]

MOST = 16.0  # the largest factor as a multiple of the smallest: a channel that calibration saw dead may wake


@torch.no_grad()
def find_factors(
    module: GraphModule, placement: Placement, spec: QuantizationSpec, batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Find the factors of all activations that only convolutions read in int8.

    Left out are values that a site quantizes behind itself, where the convolution's own kernel quantizes, and those
    that are made of such alone: between two int8 convolutions ONNX Runtime lays channels last, where its kernel for a
    scale for each channel took six times as long as the rest of PP-OCRv6 tiny rec, and a sum of dequantized values it
    makes an int8 operator, which takes one scale. Left out is also what a site makes and another reads at once: ONNX
    Runtime makes a kernel of the convolution and the QuantizeLinear behind it, which fails with more scales. A weight
    that several values are multiplied with could take the factors of one only.

    Args:
        module: the float model.
        placement: of it.
        spec: of activations; unsigned.
        batches: images ``[N, 3, H, W]`` to take the ranges from.

    Returns:
        dict: name of a value -> ``[channels]``, the largest of them 1.
    """
    readers: dict[str, set[str]] = {}
    for site in placement.sites:
        readers.setdefault(site.weight_name, set()).add(site.input_value)
    shared = {value for values in readers.values() if len(values) > 1 for value in values}
    made = {site.output_value for site in placement.sites} - {None}
    raw = {site.raw_output for site in placement.sites}
    inner = {value.name for node in module.model.graph if _reads_only(node, made) for value in node.outputs}
    kinds: dict[str, set[str]] = {}
    for site in placement.sites:
        kinds.setdefault(site.input_value, set()).add(site.kind)
    convolutions = {value for value, found in kinds.items() if found <= {"conv", "depthwise"}}
    values = [value for value in kinds if value in convolutions - made - raw - inner - shared]
    lows: dict[str, Tensor] = {}
    highs: dict[str, Tensor] = {}
    for batch in batches:
        found_values = module(batch, fetch=values)
        for value in values:
            low, high = torch.aminmax(found_values[value].transpose(0, 1).flatten(1), dim=1)
            lows[value] = torch.minimum(lows.get(value, low), low)
            highs[value] = torch.maximum(highs.get(value, high), high)
    return {value: factors_of(lows[value], highs[value], spec) for value in values}


def _reads_only(node: ir.Node, values: Collection[str | None]) -> bool:
    """Tell whether all that a node reads, but for constants, is among some values."""
    names = [value.name for value in node.inputs if value is not None and not value.is_initializer()]
    return bool(names) and all(name in values for name in names)


def factors_of(low: Tensor, high: Tensor, spec: QuantizationSpec) -> Tensor:
    """Return the factors with which all channels fit one grid.

    They share its zero point, which padding needs. With ``z`` of the integers below zero and ``p`` above, a channel
    needs steps of ``max(-low / z, high / p)``; ``z`` is the one for which these, as shares of the channels' ranges,
    have the least mean square.

    Args:
        low: of each channel, ``[channels]``.
        high: the same.
        spec: of the grid.

    >>> from ocrslim.spec import PerTensor
    >>> spec = QuantizationSpec(8, signed=False, symmetric=False, granularity=PerTensor())
    >>> factors_of(torch.tensor([-1.0, -0.5]), torch.tensor([4.0, 2.0]), spec).tolist()
    [1.0, 0.5]
    """
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    width = (high - low).clamp(min=1e-9)
    steps = spec.quant_max - spec.quant_min
    below = torch.arange(steps + 1, dtype=torch.float32)
    needed = torch.maximum(_over(-low, below), _over(high, steps - below))
    best = needed[(needed / width).square().mean(1).argmin()]
    alive = best.max().clamp(min=1e-9)
    return best.clamp(min=alive / MOST) / alive


def _over(width: Tensor, integers: Tensor) -> Tensor:
    """Return ``[choices, channels]``, the step that each number of integers gives; without any, only 0 is covered."""
    return torch.where(width > 0, width / integers.clamp(min=1e-6)[:, None], torch.zeros(()))
