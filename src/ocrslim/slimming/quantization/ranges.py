"""Choosing the range of each activation by what it does to the outputs of the sites that read it.

A narrow range clips, a wide one has coarse steps; which is worse depends on the weights behind. So each value's
candidates, percentiles of its histogram, are tried on samples of what the sites read (see :mod:`.samples`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ocrslim.slimming.quantization.numerics import fake_quantize, scale_and_zero_point
from ocrslim.slimming.quantization.observer import Percentile
from ocrslim.slimming.quantization.placement import Site
from ocrslim.slimming.quantization.prepare import Quantization, observe
from ocrslim.slimming.quantization.process_group import ALONE, ProcessGroup
from ocrslim.slimming.quantization.samples import input_factors, weight_matrix
from ocrslim.spec import QuantizationSpec

__all__ = ["OUTPUT_ERROR", "PERCENTS", "choose_output_ranges", "choose_ranges"]

OUTPUT_ERROR = "output"  # the name of this way beside those of observers

SUSPECT = 0.1  # share of what all outputs cost together, from which on one of them is looked at
WAYS = 12  # ends of a range that are tried
BETTER = 0.7
"""Share of the distance that another end must leave: a few images tell much from little, not half a tenth from a tenth.
On 1,600 other lines the ends with the least distance on 16 changed 351 texts of PP-OCRv6 tiny rec where the percentiles
had changed 315, and 147 for 134 of v5."""
PERCENTS = (99.9, 99.97, 99.99, 99.997, 99.999, 100.0)


@torch.no_grad()
def choose_ranges(
    quantization: Quantization,
    batches: Sequence[Tensor],
    samples: Mapping[str, Tensor],
    group: ProcessGroup = ALONE,
) -> dict[str, float]:
    """Set the grid of every activation that a site reads to the candidate with the least error at the sites' outputs.

    Values that are quantized only because a site makes them keep the grid of :func:`.prepare.calibrate`.

    Args:
        quantization: calibrated; its activations' grids are changed.
        batches: the calibration images.
        samples: see :func:`ocrslim.slimming.quantization.samples.collect_samples`.
        group: processes that look at a part of the batches each; all have to call it, the first one chooses.

    Returns:
        dict: name of a value -> percentage that was chosen.
    """
    readers: dict[str, list[Site]] = {}
    for site in quantization.placement.sites:
        readers.setdefault(site.input_value, []).append(site)
    observers = {value: Percentile() for value in readers}
    observe(quantization, observers, batches, group)
    if group.rank:
        return {}
    floors = {site.output_value: site.output_floor for site in quantization.placement.sites}
    chosen: dict[str, float] = {}
    for value, sites in readers.items():
        quantizer = quantization.activations[value]
        grids = _grids(observers[value], floors.get(value), quantizer.spec)
        errors = {percent: _error(quantization, sites, samples, *grid) for percent, grid in grids.items()}
        chosen[value] = min(errors, key=lambda percent: errors[percent])
        quantizer.set_grid(*grids[chosen[value]])
    quantization.floor_weight_scales()
    return chosen


@torch.no_grad()
def choose_output_ranges(
    quantization: Quantization, batches: Sequence[Tensor], distance: Callable[[], float]
) -> dict[str, float]:
    """Set the grids of the values that are quantized because a site makes them, and that no site reads.

    What reads such a value is float, so that no site's outputs judge its grid. It can matter a great deal: where an
    image is empty, a channel has one value everywhere, and its rounding error shifts the channel everywhere. In
    PP-OCRv3 mobile rec a single value, ``batch_norm_37.tmp_3``, moved the answers on 16 lines by .0174 where its range
    ended at 10.5, and by .0007 at 13.5. So the few that cost most alone try :data:`WAYS` ends of the range.

    Args:
        quantization: calibrated; those grids are changed.
        batches: calibration images.
        distance: of the network's answers from the float model's, as the module is now.

    Returns:
        dict: name of a value -> upper end of its new range; a value whose range stays is not among them.
    """
    read = {site.input_value for site in quantization.placement.sites}
    floors = {site.output_value: site.output_floor for site in quantization.placement.sites}
    only_made = {name: quantizer for name, quantizer in quantization.activations.items() if name not in read}
    if not only_made:
        return {}
    quantization.set_mode("float")
    try:
        alone = {}
        for name, quantizer in only_made.items():
            quantizer.mode = "quantize"
            alone[name] = distance()
            quantizer.mode = "float"
        suspects = [name for name, cost in alone.items() if cost > SUSPECT * sum(alone.values())]
    finally:
        quantization.set_mode("quantize")
    observers = {value: Percentile() for value in suspects}
    if suspects:
        observe(quantization, observers, batches)
    chosen = {}
    for name in suspects:  # with all others quantized: they shift the background that this one rounds
        quantizer = only_made[name]
        before, present = (quantizer.scale, quantizer.zero_point.clone()), distance()
        grids = _even_grids(observers[name], floors.get(name), quantizer.spec)
        costs = {}
        for high, grid in grids.items():
            quantizer.set_grid(*grid)
            costs[high] = distance()
        best = min(costs, key=lambda high: costs[high])
        if costs[best] < BETTER * present:
            chosen[name] = best
            quantizer.set_grid(*grids[best])
        else:
            quantizer.set_grid(*before)
    return chosen


def _grids(observer: Percentile, floor: float | None, spec: QuantizationSpec) -> dict[float, tuple[Tensor, Tensor]]:
    """Return scale and zero point of each candidate; values below the floor are all the same to what reads them."""
    return {percent: _grid(*observer.range_at(percent), floor, spec) for percent in PERCENTS}


def _even_grids(
    observer: Percentile, floor: float | None, spec: QuantizationSpec
) -> dict[float, tuple[Tensor, Tensor]]:
    """Return scale and zero point by upper end: from that of the least percentage to a tenth beyond the greatest."""
    low, high = observer.range_at(100.0)
    least = observer.range_at(PERCENTS[0])[1]
    bottom = low if floor is None else max(low, floor)
    least = max(least, bottom + 1e-3 * (high - bottom))  # a range that ends below its floor is none
    ends = torch.linspace(least, high + 0.1 * (high - bottom), WAYS).tolist()
    return {end: _grid(low, end, floor, spec) for end in ends}


def _grid(low: float, high: float, floor: float | None, spec: QuantizationSpec) -> tuple[Tensor, Tensor]:
    bottom = low if floor is None else max(low, floor)
    return scale_and_zero_point(torch.tensor([bottom]), torch.tensor([high]), spec)


def _error(
    quantization: Quantization, sites: list[Site], samples: Mapping[str, Tensor], scale: Tensor, zero_point: Tensor
) -> float:
    """Return the squared error at the outputs of some sites that read one value, as a share of the outputs' power."""
    total = 0.0
    for site in sites:
        factors = input_factors(quantization, site)
        weight = weight_matrix(quantization.module.parameter(site.weight_name), site) * factors
        inputs = samples[site.node] / factors
        spec = quantization.activations[site.input_value].spec
        error = fake_quantize(inputs, scale, zero_point, spec) - inputs
        if site.kind == "depthwise":
            noise, output = (error * weight).sum(2), (inputs * weight).sum(2)
        else:
            noise, output = error @ weight.t(), inputs @ weight.t()
        power = (output - output.mean(0)).square().mean().clamp_min(1e-20)
        total += (noise - noise.mean(0)).square().mean().div(power).item()
    return total
