"""Ranges chosen by what they do to outputs."""

from __future__ import annotations

import torch

from ocrslim.slimming.quantization.ranges import PERCENTS, choose_ranges
from ocrslim.slimming.quantization.samples import collect_samples

from .conftest import Calibrated, calibrated


def test_every_value_that_a_site_reads_gets_one_of_the_percentages(small: Calibrated) -> None:
    samples = collect_samples(small.quantization, small.batches)
    chosen = choose_ranges(small.quantization, small.batches, samples)
    assert set(chosen) == {site.input_value for site in small.quantization.placement.sites}
    assert set(chosen.values()) <= set(PERCENTS)


def test_a_single_wild_value_is_clipped_where_it_hardly_counts() -> None:
    """One pixel of 1,000 among values below 1 would leave the others a step of 4."""
    small = calibrated()
    site = small.site("second")
    samples = collect_samples(small.quantization, small.batches)
    wild = small.batches[0].clone()
    wild[0, :, 0, 0] = 1000.0
    calm = choose_ranges(small.quantization, small.batches, samples)
    scale = small.quantization.activations[site.input_value].scale.item()
    choose_ranges(small.quantization, [wild, *small.batches * 40], samples)
    assert calm[site.input_value] in PERCENTS
    assert small.quantization.activations[site.input_value].scale.item() < 3 * scale


def test_outputs_come_no_farther_from_the_float_ones() -> None:
    small = calibrated()
    with torch.no_grad():
        truth = small.teacher(small.batches[0], fetch=["y"])["y"]
    before = (small.forward() - truth).square().mean()
    choose_ranges(small.quantization, small.batches, collect_samples(small.quantization, small.batches))
    assert (small.forward() - truth).square().mean() < 1.1 * before


def test_it_quantizes_afterwards(small: Calibrated) -> None:
    choose_ranges(small.quantization, small.batches, collect_samples(small.quantization, small.batches))
    assert {quantizer.mode for quantizer in small.quantization.activations.values()} == {"quantize"}
