"""Importance: the formulas by hand, and that it tells beforehand what a removal does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor

from ocrslim.errors import InputError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.importance import magnitude, sampled_loss, taylor

Build = Callable[..., ir.Model]


def summed(module: GraphModule, images: Tensor) -> Tensor:
    return module(images).sum()


def test_magnitude_by_hand(build: Build) -> None:
    w = np.array([1.0, -3.0, 2.0], np.float32).reshape(3, 1, 1, 1)
    v = np.array([[1.0, 1.0, -4.0]], np.float32).reshape(1, 3, 1, 1)
    model = build("a = Conv(x, w) y = Conv(a, v)", {"w": w, "v": v}, x="float[N,1,H,W]")
    channels = Channels(model, (1, 1, 4, 4))
    group = channels.groups[0]
    # |w| in units of its mean 2, |v| of its mean 2: (.5 + .5, 1.5 + .5, 1 + 2) / 6
    found = [magnitude(channels)[unit] for unit in group.units]
    assert found == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_a_group_costs_one_whatever_the_size_of_its_weights(chain: Channels) -> None:
    scores = magnitude(chain)
    for group in chain.groups:
        if not group.reason:
            assert sum(scores[unit] for unit in group.units) == pytest.approx(1.0)


def test_taylor_by_hand(build: Build) -> None:
    # y = sum_c v_c (w_c x): the gate of channel c has the derivative v_c w_c sum(x), on both sides of the channel.
    w = np.array([1.0, 2.0, -3.0], np.float32).reshape(3, 1, 1, 1)
    v = np.array([[4.0, 0.5, 1.0]], np.float32).reshape(1, 3, 1, 1)
    channels = Channels(build("a = Conv(x, w) y = Conv(a, v)", {"w": w, "v": v}, x="float[N,1,H,W]"), (1, 1, 4, 4))
    images = [torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 1.0)]
    group = channels.groups[0]
    found = [taylor(channels, images, summed)[unit] for unit in group.units]
    mean_square = (2.0**2 + 4.0**2) / 2
    assert found == pytest.approx([gate**2 * mean_square for gate in (4.0, 1.0, -3.0)])


def test_a_channel_that_nothing_reads_costs_nothing(build: Build) -> None:
    v = np.ones((2, 4, 1, 1), np.float32)
    v[:, 1] = 0.0
    channels = Channels(build("a = Conv(x, w) r = Relu(a) y = Conv(r, v)", {"w": (4, 3, 1, 1), "v": v}), (1, 3, 4, 4))
    group = channels.groups[0]
    scores = taylor(channels, [torch.rand(2, 3, 4, 4)], summed)
    assert min(group.units, key=scores.__getitem__) == group.units[1]


def test_taylor_needs_images(chain: Channels) -> None:
    with pytest.raises(InputError, match="no images"):
        taylor(chain, [], summed)


@pytest.mark.parametrize("task", ["rec", "det"])
def test_the_same_seed_draws_the_same(task: str, chain: Channels, batches: list[Tensor]) -> None:
    module = GraphModule(chain.model).eval()
    losses = [sampled_loss(task, "z", seed)(module, batches[0]).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_taylor_foretells_the_divergence(chain: Channels, batches: list[Tensor]) -> None:
    # The expectation of the score is the second order of the divergence: so the two rank single channels alike.
    total: dict[int, float] = {}
    for seed in range(20):
        for unit, score in taylor(chain, batches, sampled_loss("det", "z", seed)).items():
            total[unit] = total.get(unit, 0.0) + score
    images = torch.cat(batches)
    with torch.no_grad():
        target = GraphModule(chain.model).eval()(images)
    units = [unit for group in chain.groups if not group.reason for unit in group.units[:8]]
    moved = []
    for unit in units:
        with torch.no_grad():
            answer = GraphModule(cut(chain, [unit])).eval()(images)
        kl = target * (target / answer).log() + (1 - target) * ((1 - target) / (1 - answer)).log()
        moved.append(kl.mean().item())
    ranks = [np.argsort(np.argsort(values)) for values in ([total[unit] for unit in units], moved)]
    assert np.corrcoef(*ranks)[0, 1] > 0.7


def test_a_recognisers_frames(build: Build) -> None:
    layers = "a = MatMul(s, w) r = Relu(a) z = MatMul(r, v) y = Softmax(z)"
    body = f"t = Transpose<perm=[0,2,3,1]>(x) s = Squeeze(t, one) {layers}"
    model = build(body, {"one": np.array([1]), "w": (3, 8), "v": (8, 5)}, x="float[N,3,1,W]")
    channels = Channels(model, (1, 3, 1, 20))
    scores = taylor(channels, [torch.rand(2, 3, 1, 20)], sampled_loss("rec", "z", 0))
    assert set(scores) == set(channels.groups[0].units)
    assert all(score >= 0 for score in scores.values())
    assert sum(scores.values()) > 0
