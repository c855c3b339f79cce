"""Samples are rows of what a site multiplies its weights with."""

from __future__ import annotations

import pytest
import torch

from ocrslim.slimming.quantization.samples import ROWS, collect_samples, weight_matrix

from .conftest import Calibrated, calibrated


@pytest.mark.parametrize("node", ["first", "second", "window", "product"])
def test_rows_times_the_weights_are_outputs_of_the_float_model(node: str) -> None:
    """Every sampled row gives an output that the float network has, padding and strides included."""
    small = calibrated("openvino")
    samples = collect_samples(small.quantization, small.batches)
    site = small.site(node)
    weight = weight_matrix(small.teacher.parameter(site.weight_name).detach(), site)
    rows = samples[node] @ weight.t()
    if node != "product":
        assert site.bias_name is not None
        rows = rows + small.teacher.parameter(site.bias_name).detach()
    outputs = []
    for batch in small.batches:
        with torch.no_grad():
            found = small.teacher(batch, fetch=[site.raw_output])[site.raw_output]
        outputs.append(found.movedim(1, -1).reshape(-1, rows.shape[1]) if node != "product" else found.flatten(0, -2))
    distance = torch.cdist(rows.double(), torch.cat(outputs).double()).amin(1)
    assert distance.max() < 1e-4


def test_rows_are_as_many_as_asked_at_most(small: Calibrated) -> None:
    samples = collect_samples(small.quantization, small.batches, rows=30)
    assert set(samples) == {site.node for site in small.quantization.placement.sites}
    assert all(0 < len(rows) <= 30 for rows in samples.values())
    whole = collect_samples(small.quantization, small.batches)
    assert all(len(rows) <= ROWS for rows in whole.values())


def test_the_same_seed_takes_the_same_rows(small: Calibrated) -> None:
    first, again, other = (collect_samples(small.quantization, small.batches, 30, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[node], again[node]) for node in first)
    assert any(not torch.equal(first[node], other[node]) for node in first)


def test_it_quantizes_afterwards(small: Calibrated) -> None:
    before = small.forward()
    collect_samples(small.quantization, small.batches)
    assert torch.equal(small.forward(), before)


def test_without_batches_there_is_nothing_to_take(small: Calibrated) -> None:
    with pytest.raises(ValueError, match="no batches"):
        collect_samples(small.quantization, [])


def test_a_weight_matrix_is_a_view(small: Calibrated) -> None:
    for site in small.quantization.placement.sites:
        weight = small.quantization.module.parameter(site.weight_name).detach()
        matrix = weight_matrix(weight, site)
        assert matrix.data_ptr() == weight.data_ptr()
        assert matrix.shape[0] == weight.shape[site.weight_axis]
