"""Calibration in one call is its steps in their order, and samples serve a second observer."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from ocrslim.errors import InputError
from ocrslim.slimming.quantization.calibration import calibrate_fully
from ocrslim.slimming.quantization.prepare import calibrate
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR, choose_ranges
from ocrslim.slimming.quantization.rounding import round_weights
from ocrslim.slimming.quantization.samples import collect_samples

from .conftest import Calibrated, calibrated


def state(small: Calibrated) -> Mapping[str, torch.Tensor]:
    return {name: value.clone() for name, value in small.quantization.module.state_dict().items()}


def equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_by_output_it_is_percentiles_then_ranges_then_rounding() -> None:
    ours, steps = calibrated(), calibrated()
    calibrate_fully(ours.quantization, ours.batches, OUTPUT_ERROR, seed=1)
    calibrate(steps.quantization, steps.batches, "percentile")
    samples = collect_samples(steps.quantization, steps.batches, seed=1)
    choose_ranges(steps.quantization, steps.batches, samples)
    round_weights(steps.quantization, samples)
    assert equal(state(ours), state(steps))


def test_another_observer_chooses_the_ranges_alone() -> None:
    ours, steps = calibrated(), calibrated()
    calibrate_fully(ours.quantization, ours.batches, "mse", seed=1)
    calibrate(steps.quantization, steps.batches, "mse")
    round_weights(steps.quantization, collect_samples(steps.quantization, steps.batches, seed=1))
    assert equal(state(ours), state(steps))
    other = calibrated()
    calibrate_fully(other.quantization, other.batches, OUTPUT_ERROR, seed=1)
    assert not equal(state(ours), state(other))


def test_samples_of_an_earlier_call_serve() -> None:
    first, again, anew = calibrated(), calibrated(), calibrated()
    samples = calibrate_fully(first.quantization, first.batches, "minmax", seed=1)
    assert calibrate_fully(again.quantization, again.batches, OUTPUT_ERROR, 1, samples) is samples
    calibrate_fully(anew.quantization, anew.batches, OUTPUT_ERROR, 1)
    assert equal(state(again), state(anew))


def test_an_unknown_observer_is_told() -> None:
    small = calibrated()
    with pytest.raises(InputError, match="mean"):
        calibrate_fully(small.quantization, small.batches, "mean", 0)


def test_without_images_nothing_is_calibrated() -> None:
    with pytest.raises((ValueError, InputError)):
        calibrate_fully(calibrated().quantization, [], OUTPUT_ERROR, 0)
