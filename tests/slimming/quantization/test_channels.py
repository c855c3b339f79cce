"""A scale for each channel: the factors fit all channels into one grid, and what is computed stays."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.engines.targets import TARGETS, get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.calibration import calibrate_fully
from ocrslim.slimming.quantization.channels import MOST, factors_of, find_factors
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, prepare, transfer
from ocrslim.slimming.quantization.samples import input_factors, weight_matrix
from ocrslim.spec import PerTensor, QuantizationSpec

from .conftest import LOUD, network

U8 = QuantizationSpec(8, signed=False, symmetric=False, granularity=PerTensor())
OPENVINO = get_target("openvino", ["avx2"])
SIDES = st.tuples(st.floats(-4.0, 0.0), st.floats(0.5, 8.0))


def images(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(4, 3, 12, size, generator=generator) for size in (8, 16, 24)]


def quantized(channels: bool, observer: str = "minmax", loud: float = 50.0) -> Quantization:
    """Return a network with one loud channel, with factors or without."""
    graph = network(loud)
    placement = place(graph, OPENVINO)
    factors = find_factors(GraphModule(graph), placement, U8, images()) if channels else {}
    quantization = prepare(GraphModule(graph).eval(), placement, OPENVINO, factors=factors)
    calibrate_fully(quantization, images(), observer, 0)
    return quantization


def error(quantization: Quantization) -> float:
    """Return the mean square of the answers' error on other images."""
    with torch.no_grad():
        truth = GraphModule(network(50.0))(images(1)[0])
        return (quantization.module(images(1)[0]) - truth).square().mean().item()


@given(st.lists(SIDES, min_size=1, max_size=6))
def test_factors_are_shares_of_the_largest(sides: list[tuple[float, float]]) -> None:
    low, high = torch.tensor(sides).t()
    factors = factors_of(low, high, U8)
    assert factors.max().item() == pytest.approx(1.0)
    assert factors.min().item() >= 1.0 / MOST - 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_no_other_zero_point_fits_the_channels_better(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low, high = -torch.rand(8, generator=generator) * 2, 1.0 + torch.rand(8, generator=generator) * 3

    def cost(zero: int) -> float:
        steps = [max(-a / max(zero, 1e-6), b / max(255 - zero, 1e-6)) for a, b in zip(low, high, strict=True)]
        return float(sum((step / (b - a)) ** 2 for step, a, b in zip(steps, low, high, strict=True)))

    zero = min(range(256), key=cost)
    steps = torch.maximum(-low / zero, high / (255 - zero))
    assert torch.allclose(factors_of(low, high, U8), steps / steps.max(), rtol=1e-4)


def test_channels_of_one_shape_get_factors_in_proportion_to_their_ranges() -> None:
    low, high = torch.tensor([-1.0, -0.25, -0.5]), torch.tensor([4.0, 1.0, 2.0])
    assert factors_of(low, high, U8).tolist() == pytest.approx([1.0, 0.25, 0.5])


def test_a_dead_channel_may_wake() -> None:
    factors = factors_of(torch.zeros(2), torch.tensor([0.0, 32.0]), U8)
    assert factors.tolist() == pytest.approx([1.0 / MOST, 1.0])


def test_only_what_convolutions_alone_read_gets_factors() -> None:
    graph = network()
    found = find_factors(GraphModule(graph), place(graph, OPENVINO), U8, images())
    assert set(found) == {"stem.r", "first.r", "second.s"}  # `turned` is read by a product
    onnxruntime = get_target("onnxruntime", ["avx2"])
    found = find_factors(GraphModule(graph), place(graph, onnxruntime), U8, images())
    # Sites quantize `first.r` and `second.y` behind themselves, and `second.s` is made of the latter alone.
    assert set(found) == {"stem.r"}


def test_a_weight_that_reads_two_values_can_take_the_factors_of_neither() -> None:
    graph = network()
    placement = place(graph, OPENVINO)
    first, *others = placement.sites
    twin = dataclasses.replace(first, node="twin", input_value=others[0].input_value)
    shared = dataclasses.replace(placement, sites=(*placement.sites, twin))
    assert set(find_factors(GraphModule(graph), shared, U8, images())) == {"second.s"}


def test_a_loud_channel_costs_the_others_nothing() -> None:
    factors = quantized(channels=True).factors["first.r"]
    others = torch.cat([factors[:LOUD], factors[LOUD + 1 :]])
    assert factors[LOUD] == 1.0
    assert others.max() < 0.2
    assert error(quantized(channels=True)) < 0.2 * error(quantized(channels=False))


@pytest.mark.parametrize("observer", ["output", "percentile"])
def test_all_ways_to_calibrate_know_the_factors(observer: str) -> None:
    assert error(quantized(channels=True, observer=observer)) < 0.3 * error(quantized(channels=False))


def test_in_float_the_network_computes_what_it_did() -> None:
    graph = network(50.0)
    placement = place(graph, OPENVINO)
    factors = find_factors(GraphModule(graph), placement, U8, images())
    quantization = prepare(GraphModule(graph).eval(), placement, OPENVINO, factors=factors)
    quantization.set_mode("float")
    with torch.no_grad():
        assert torch.equal(quantization.module(images()[0]), GraphModule(graph)(images()[0]))


def test_rounded_weights_are_integers_once_they_are_multiplied() -> None:
    quantization = quantized(channels=True)
    for site in quantization.placement.sites:
        quantizer = quantization.weights[site.weight_name]
        factors = input_factors(quantization, site)
        weight = weight_matrix(quantization.module.parameter(site.weight_name).detach(), site) * factors
        codes = weight / quantizer.scale[:, None]
        assert torch.allclose(codes, codes.round(), atol=1e-3)
        assert codes.abs().max() <= 64.001


def test_every_tap_of_a_window_has_its_channels_factor() -> None:
    quantization = quantized(channels=True)
    site = next(site for site in quantization.placement.sites if site.node == "window")
    factors = input_factors(quantization, site)
    assert factors.shape == (40 * 9,)
    assert torch.equal(factors.reshape(40, 9)[:, 0], quantization.factors["second.s"])
    assert torch.equal(factors.reshape(40, 9)[:, 0], factors.reshape(40, 9)[:, 8])


def test_fixed_integers_stand_for_the_same_weights_and_learn_their_scales() -> None:
    quantization = quantized(channels=True)
    with torch.no_grad():
        before = quantization.module(images()[0])
    quantization.fix_codes()
    after = quantization.module(images()[0])
    assert torch.allclose(before, after, atol=1e-4)
    after.square().sum().backward()
    for scale in (*quantization.weight_scales(), *quantization.activation_scales()):
        assert scale.grad is not None
        assert bool(scale.grad.isfinite().all())


def test_a_copy_with_fewer_sites_keeps_the_factors_of_the_others() -> None:
    whole = quantized(channels=True)
    graph = network(50.0)
    placement = place(graph, OPENVINO, ["first"])
    fewer = prepare(GraphModule(graph).eval(), placement, OPENVINO, factors=whole.factors)
    transfer(whole, fewer)
    assert "stem.r" not in fewer.factors
    assert torch.equal(fewer.factors["first.r"], whole.factors["first.r"])
    assert fewer.activations["first.r"].scale == whole.activations["first.r"].scale
    assert error(fewer) < 1.5 * error(whole)


def test_a_zero_point_is_not_learned_with_factors() -> None:
    graph = network()
    placement = place(graph, OPENVINO)
    factors = find_factors(GraphModule(graph), placement, U8, images())
    with pytest.raises(ValueError, match="one scale only"):
        prepare(GraphModule(graph), placement, OPENVINO, learn_zero_points=True, factors=factors)


def test_engines_without_a_kernel_for_it_get_none() -> None:
    takes = [name for name in TARGETS if get_target(name).channel_scales]
    assert takes == ["onnxruntime", "openvino"]
