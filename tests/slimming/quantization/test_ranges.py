"""Ranges chosen by what they do to outputs."""

from __future__ import annotations

import torch

from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import calibrate, prepare
from ocrslim.slimming.quantization.ranges import PERCENTS, choose_output_ranges, choose_ranges
from ocrslim.slimming.quantization.samples import collect_samples

from .conftest import Calibrated, calibrated, network


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


def test_a_value_that_no_site_reads_gets_the_range_that_the_answers_like() -> None:
    """The distance is made up: it falls to nothing where the range of the last output ends at 7."""
    target = get_target("onnxruntime")
    graph = network()
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    batches = [torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    calibrate(quantization, batches, observer="minmax")
    read = {site.input_value for site in quantization.placement.sites}
    made = [name for name in quantization.activations if name not in read]
    assert made
    before = {name: quantization.activations[name].scale.item() for name in quantization.activations}
    watched = quantization.activations[made[-1]]
    wanted = 1.05 * before[made[-1]]

    def distance() -> float:
        return abs(watched.scale.item() - wanted) + 1e-9 if watched.mode == "quantize" else 1e-12

    chosen = choose_output_ranges(quantization, batches, distance)
    assert list(chosen) == [made[-1]]
    assert abs(watched.scale.item() - wanted) < abs(before[made[-1]] - wanted)
    for name, quantizer in quantization.activations.items():
        assert quantizer.mode == "quantize"
        assert name == made[-1] or quantizer.scale.item() == before[name]


def test_a_range_stays_unless_another_is_much_better() -> None:
    target = get_target("onnxruntime")
    graph = network()
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    batches = [torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))]
    calibrate(quantization, batches, observer="minmax")
    before = {name: (q.scale.item(), q.zero_point.item()) for name, q in quantization.activations.items()}
    last = quantization.activations[
        [name for name in before if name not in {site.input_value for site in quantization.placement.sites}][-1]
    ]

    def distance() -> float:  # a little better the wider it is
        return 1.0 - 0.01 * last.scale.item() if last.mode == "quantize" else 1e-12

    assert choose_output_ranges(quantization, batches, distance) == {}
    assert {name: (q.scale.item(), q.zero_point.item()) for name, q in quantization.activations.items()} == before
