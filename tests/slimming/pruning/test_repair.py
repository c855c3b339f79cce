"""Moments, the least squares repair, and scores that know what the others can tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.pruning import repair as module
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.importance import magnitude
from ocrslim.slimming.pruning.moments import Window, collect_moments, find_layers
from ocrslim.slimming.pruning.redundancy import RIDGE, eliminate, untold
from ocrslim.slimming.pruning.repair import REMEMBERED, Repairs, fit, repair


def test_layers_of_the_chain(chain: Channels) -> None:
    layers = {layer.node: layer for layer in find_layers(chain)}
    assert set(layers) == {"b", "c", "e", "z"}  # the first reads the image, the depthwise one adds up nothing
    assert layers["e"].window == Window((3, 3), (1, 1), (1, 1), "NOTSET", (1, 1, 1, 1))
    assert (layers["c"].weight, layers["c"].axis, layers["c"].bias) == ("cw", 1, "cb")


def test_moments_of_a_pointwise_layer(chain: Channels, batches: list[Tensor]) -> None:
    moments = collect_moments(chain, batches)["c"]
    with torch.no_grad():
        read = torch.cat([GraphModule(chain.model)(images, fetch=("br",))["br"] for images in batches])
    rows = read.permute(0, 2, 3, 1).reshape(-1, 24).double().numpy()
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean(), rows.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(moments.covariance(centred=True), np.cov(rows.T, bias=True), atol=1e-5)
    np.testing.assert_allclose(moments.covariance(centred=False), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)


def test_moments_of_a_window(chain: Channels, batches: list[Tensor]) -> None:
    moments = collect_moments(chain, batches[:1])["e"]
    with torch.no_grad():
        read = GraphModule(chain.model)(batches[0], fetch=("cr",))["cr"]
    assert moments.count == 4 * 16 * 16
    seen = read[:, 3, :15].double().sum() / moments.count  # channel 3 at the window's pixel (0, 1): the row above
    assert moments.mean()[3 * 9 + 1] == pytest.approx(seen.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("attributes", "count"), [("auto_pad='SAME_UPPER', strides=[2,2]", 16), ("pads=[0,1,0,0]", 42)]
)
def test_windows_are_those_of_the_convolution(attributes: str, count: int, build: Callable[..., ir.Model]) -> None:
    body = f"a = Conv(x, w) y = Conv<{attributes}>(a, v, b)"
    model = build(body, {"w": (4, 3, 1, 1), "v": (5, 4, 3, 3), "b": (5,)})
    channels = Channels(model, (1, 3, 8, 8))
    images = torch.rand(1, 3, 8, 8)
    moments = collect_moments(channels, [images])["y"]
    assert moments.count == count
    with torch.no_grad():
        answer = GraphModule(model)(images)
    weight, bias = (model.graph.initializers[name].const_value.numpy() for name in ("v", "b"))
    expected = weight.reshape(5, -1) @ moments.mean() + bias
    np.testing.assert_allclose(answer.mean(dim=(0, 2, 3)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_channel_that_is_a_sum_of_others_is_told_exactly(build: Callable[..., ir.Model]) -> None:
    w = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    w[3] = 2 * w[0] - w[1] + 0.5 * w[2]
    bias = np.array([1, 2, 3, 4], np.float32)  # a constant besides, for the bias to take up
    model = build("a = Conv(x, w, b) y = Conv(a, v, c)", {"w": w, "b": bias, "v": (5, 4, 1, 1), "c": (5,)})
    channels = Channels(model, (1, 3, 8, 8))
    images = torch.rand(4, 3, 8, 8)
    moments = collect_moments(channels, [images])
    removed = [channels.groups[0].units[3]]
    with torch.no_grad():
        whole = GraphModule(model)(images)
        bare = GraphModule(cut(channels, removed))(images)
        repaired = GraphModule(cut(channels, removed, repair(channels, removed, moments)))(images)
    assert (bare - whole).abs().max() > 0.5
    assert (repaired - whole).abs().max() < 0.05  # the ridge costs a little


@pytest.mark.parametrize("axis", [0, 1])
def test_products_are_repaired_too(axis: int, build: Callable[..., ir.Model]) -> None:
    second = "h = MatMul(r, v) y = Add(h, c)" if axis == 0 else "y = Gemm<transB=1>(r, v, c)"
    body = f"p = GlobalAveragePool(x) f = Reshape(p, flat) r = Gemm(f, w) {second}"
    w = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)  # five channels of rank three
    model = build(body, {"w": w, "v": (5, 4) if axis == 0 else (4, 5), "c": (4,), "flat": np.array([0, -1])})
    channels = Channels(model, (1, 3, 8, 8))
    images = torch.rand(64, 3, 8, 8)
    removed = channels.groups[0].units[3:]
    moments = collect_moments(channels, [images])
    changed = repair(channels, removed, moments)
    assert set(changed) == {"v", "c"}
    with torch.no_grad():
        whole = GraphModule(model)(images)
        repaired = GraphModule(cut(channels, removed, changed))(images)
        bare = GraphModule(cut(channels, removed))(images)
    assert (repaired - whole).abs().mean() < 0.1 * (bare - whole).abs().mean()


def test_repair_is_nearer_than_none(chain: Channels, batches: list[Tensor]) -> None:
    moments = collect_moments(chain, batches)
    removed = [unit for group in chain.groups if not group.reason for unit in group.units[::4]]
    images = torch.cat(batches)
    with torch.no_grad():
        whole = GraphModule(chain.model)(images, fetch=("z",))["z"]
        far = [
            (GraphModule(cut(chain, removed, new))(images, fetch=("z",))["z"] - whole).square().mean().item()
            for new in (None, repair(chain, removed, moments))
        ]
    assert far[1] < 0.5 * far[0]


def test_nothing_removed_changes_nothing(chain: Channels, batches: list[Tensor]) -> None:
    assert repair(chain, [], collect_moments(chain, batches[:1])) == {}


@given(seed=st.integers(0, 1000), kept=st.integers(1, 5))
def test_the_fit_is_least_squares(seed: int, kept: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(200, 6)) @ random.normal(size=(6, 6))
    stays = np.arange(6) < kept
    told = fit(rows.T @ rows / len(rows), stays, ridge=1e-9)
    expected = np.linalg.lstsq(rows[:, stays], rows, rcond=None)[0].T
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-4)  # columns may be nearly alike


@given(seed=st.integers(0, 1000))
def test_elimination_takes_what_is_least_untold(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(100, 5)) @ random.normal(size=(5, 5))
    covariance, prices = np.cov(rows.T), random.uniform(0.5, 2.0, 5)
    order, costs = eliminate(covariance, prices)
    assert sorted(order) == list(range(5))
    assert costs == sorted(costs)
    # The first by brute force: the variance that a ridge regression on all others leaves.
    covariance = covariance + np.eye(5) * RIDGE * np.trace(covariance) / 5
    left = []
    for index in range(5):
        others = [other for other in range(5) if other != index]
        inner = covariance[np.ix_(others, others)]
        told = covariance[index, others] @ np.linalg.solve(inner, covariance[others, index])
        left.append(prices[index] * (covariance[index, index] - told))
    assert order[0] == int(np.argmin(left))
    assert costs[0] == pytest.approx(min(left), rel=1e-6)


def test_of_two_equal_channels_one_is_free(build: Callable[..., ir.Model]) -> None:
    w = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    w[2] = w[0]
    channels = Channels(build("a = Conv(x, w) y = Conv(a, v)", {"w": w, "v": (5, 4, 1, 1)}), (1, 3, 8, 8))
    moments = collect_moments(channels, [torch.rand(4, 3, 8, 8)])
    units = channels.groups[0].units
    scores = untold(channels, magnitude(channels), moments)
    cheap = min(units, key=scores.__getitem__)
    assert cheap in (units[0], units[2])
    assert scores[cheap] < 0.05 * max(scores.values())
    twin = units[2] if cheap == units[0] else units[0]
    assert scores[twin] > 2 * scores[cheap], "when its twin is gone, nothing tells it"


def test_units_of_several_channels_and_windows_are_scored(chain: Channels, batches: list[Tensor]) -> None:
    scores = magnitude(chain)
    changed = untold(chain, scores, collect_moments(chain, batches))
    for group in chain.groups:
        if not group.reason:
            assert any(changed[unit] != scores[unit] for unit in group.units), group.name
            assert all(changed[unit] >= 0 for unit in group.units)


def test_fits_of_a_layer_are_remembered_and_are_those_of_a_fresh_start(
    chain: Channels, batches: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments, fitted = collect_moments(chain, batches), list[int]()
    monkeypatch.setattr(module, "fit", lambda *given: fitted.append(1) or fit(*given))
    a, b = (group.units for group in chain.groups[:2])
    ways = [a[:8], (*a[:8], *b[:4]), (*a[:8], *b[:8]), a[:8], (*a[:8], *b[:4])]
    repairs = Repairs(chain, moments)
    counts = []
    for way in ways:
        found, fresh = repairs.of(way), repair(chain, way, moments)
        fitted.clear()
        assert found.keys() == fresh.keys()
        assert all(np.array_equal(found[name], fresh[name]) for name in found)
        repairs.of(way)
        counts.append(len(fitted))
    assert counts == [0] * len(ways), "the last ways are known"
    for gone in range(1, REMEMBERED + 2):
        repairs.of(a[:gone])
    repairs.of(a[:8])
    assert fitted, "and forgotten, when others have come"
