"""Rounding by outputs: on the grid, better than to nearest where inputs work together, the mean in the bias."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrslim.slimming.quantization.rounding import _factor, round_to_outputs, round_weights
from ocrslim.slimming.quantization.samples import collect_samples, weight_matrix

from .conftest import calibrated

BOUNDS = (-8, 7)


def layer(seed: int, correlated: float = 0.95) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weights, inputs that share a common part, and scales."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 20, generator=generator)
    common = torch.randn(400, 1, generator=generator)
    inputs = correlated * common + (1 - correlated) * torch.randn(400, 20, generator=generator) + 3.0
    return weight, inputs, weight.abs().amax(1) / 7


def error(weight: torch.Tensor, grid: torch.Tensor, inputs: torch.Tensor) -> float:
    """Return the variance of the outputs' error; a bias takes its mean."""
    return ((grid - weight) @ inputs.t()).var(1).sum().item()


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_every_weight_is_on_its_grid(seed: int) -> None:
    weight, inputs, scale = layer(seed)
    grid = round_to_outputs(weight, inputs, scale, BOUNDS) / scale[:, None]
    assert torch.allclose(grid, grid.round(), atol=1e-4)
    assert grid.min() >= BOUNDS[0] - 1e-4
    assert grid.max() <= BOUNDS[1] + 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_outputs_move_less_than_by_rounding_to_nearest(seed: int) -> None:
    weight, inputs, scale = layer(seed)
    nearest = (weight / scale[:, None]).round().clamp(*BOUNDS) * scale[:, None]
    assert error(weight, round_to_outputs(weight, inputs, scale, BOUNDS), inputs) < 0.3 * error(weight, nearest, inputs)


def test_inputs_without_relation_are_rounded_to_nearest() -> None:
    """With a covariance of ones on the diagonal alone there is nothing to make good with."""
    weight, _, scale = layer(0)
    inputs = torch.cat([torch.eye(20), -torch.eye(20)])
    nearest = (weight / scale[:, None]).round().clamp(*BOUNDS) * scale[:, None]
    assert torch.allclose(round_to_outputs(weight, inputs, scale, BOUNDS), nearest, atol=1e-5)


def test_an_input_that_never_changes_does_no_harm() -> None:
    weight, inputs, scale = layer(0)
    inputs[:, 3] = 0.0
    grid = round_to_outputs(weight, inputs, scale, BOUNDS)
    assert torch.isfinite(grid).all()


def test_a_quantized_network_comes_nearer_to_the_float_one() -> None:
    """Weights of three bits, so that rounding is what counts."""
    small = calibrated(bits=3)
    with torch.no_grad():
        truth = small.teacher(small.batches[0], fetch=["y"])["y"]
    before = (small.forward() - truth).square().mean()
    round_weights(small.quantization, collect_samples(small.quantization, small.batches))
    assert (small.forward() - truth).square().mean() < 0.5 * before


def test_the_fake_quantizers_leave_rounded_weights_alone() -> None:
    small = calibrated()
    round_weights(small.quantization, collect_samples(small.quantization, small.batches))
    for site in small.quantization.placement.sites:
        weight = small.quantization.module.parameter(site.weight_name).detach()
        assert torch.allclose(small.quantization.weights[site.weight_name](weight), weight, atol=1e-5)


def test_the_mean_goes_into_the_bias() -> None:
    """On its own samples, a site's outputs keep their mean."""
    small = calibrated(bits=3)
    samples = collect_samples(small.quantization, small.batches)
    round_weights(small.quantization, samples)
    site = small.site("second")
    inputs = small.quantization.activations[site.input_value](samples["second"])
    for module, rows in ((small.teacher, inputs), (small.quantization.module, inputs)):
        weight = weight_matrix(module.parameter(site.weight_name).detach(), site)
        bias = module.parameter("second.b").detach()
        mean = (rows @ weight.t() + bias).mean(0)
        if module is small.teacher:
            wanted = mean
    assert torch.allclose(mean, wanted, atol=1e-4)


@pytest.mark.parametrize(("rows", "inputs"), [(30, 80), (80, 30), (40, 40)])
def test_few_samples_of_many_inputs_give_the_factor_of_the_definition(rows: int, inputs: int) -> None:
    centred = torch.randn(rows, inputs, dtype=torch.double, generator=torch.Generator().manual_seed(rows))
    covariance = centred.t() @ centred / rows + 0.02 * torch.eye(inputs, dtype=torch.double)
    expected = torch.linalg.cholesky(torch.linalg.inv(covariance), upper=True).float()
    assert torch.allclose(_factor(centred, 0.02), expected, rtol=1e-4, atol=1e-5)
