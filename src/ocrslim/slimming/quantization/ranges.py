"""Choosing the range of each activation by what it does to the outputs of the sites that read it.

A narrow range clips, a wide one has coarse steps; which is worse depends on the weights behind. So each value's
candidates, percentiles of its histogram, are tried on samples of what the sites read (see :mod:`.samples`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ocrslim.slimming.quantization.numerics import fake_quantize, scale_and_zero_point
from ocrslim.slimming.quantization.observer import Percentile
from ocrslim.slimming.quantization.placement import Site
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.quantization.samples import weight_matrix

__all__ = ["OUTPUT_ERROR", "PERCENTS", "choose_ranges"]

OUTPUT_ERROR = "output"  # the name of this way beside those of observers

PERCENTS = (99.9, 99.97, 99.99, 99.997, 99.999, 100.0)


@torch.no_grad()
def choose_ranges(
    quantization: Quantization, batches: Iterable[Tensor], samples: Mapping[str, Tensor]
) -> dict[str, float]:
    """Set the grid of every activation that a site reads to the candidate with the least error at the sites' outputs.

    Values that are quantized only because a site makes them keep the grid of :func:`.prepare.calibrate`.

    Args:
        quantization: calibrated; its activations' grids are changed.
        batches: the calibration images.
        samples: see :func:`ocrslim.slimming.quantization.samples.collect_samples`.

    Returns:
        dict: name of a value -> percentage that was chosen.
    """
    readers: dict[str, list[Site]] = {}
    for site in quantization.placement.sites:
        readers.setdefault(site.input_value, []).append(site)
    observers = _observe(quantization, readers, batches)
    floors = {site.output_value: site.output_floor for site in quantization.placement.sites}
    chosen: dict[str, float] = {}
    for value, sites in readers.items():
        quantizer = quantization.activations[value]
        grids = {}
        for percent in PERCENTS:
            low, high = observers[value].range_at(percent)
            low = max(low, floors.get(value) or low)
            grids[percent] = scale_and_zero_point(torch.tensor([low]), torch.tensor([high]), quantizer.spec)
        errors = {percent: _error(quantization, sites, samples, *grid) for percent, grid in grids.items()}
        chosen[value] = min(errors, key=lambda percent: errors[percent])
        quantizer.set_grid(*grids[chosen[value]])
    quantization.floor_weight_scales()
    return chosen


def _error(
    quantization: Quantization, sites: list[Site], samples: Mapping[str, Tensor], scale: Tensor, zero_point: Tensor
) -> float:
    """Return the squared error at the outputs of some sites that read one value, as a share of the outputs' power."""
    total = 0.0
    for site in sites:
        weight = weight_matrix(quantization.module.parameter(site.weight_name), site)
        inputs = samples[site.node]
        spec = quantization.activations[site.input_value].spec
        noise = (fake_quantize(inputs, scale, zero_point, spec) - inputs) @ weight.t()
        output = inputs @ weight.t()
        power = (output - output.mean(0)).square().mean().clamp_min(1e-20)
        total += (noise - noise.mean(0)).square().mean().div(power).item()
    return total


def _observe(quantization: Quantization, values: Iterable[str], batches: Iterable[Tensor]) -> dict[str, Percentile]:
    observers = {value: Percentile() for value in values}
    quantization.set_mode("float")
    try:
        for batch in batches:
            found = quantization.module(batch, fetch=tuple(observers))
            for value, observer in observers.items():
                observer.update(found[value])
    finally:
        quantization.set_mode("quantize")
    return observers
