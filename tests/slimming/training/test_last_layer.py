"""The last layer and labels: the loss against brute force, what is learned on a problem with a known answer."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ocrslim.slimming.training.last_layer import LastLayer, Line, fit_last_layer, labels_loss


def spelled(frames: tuple[int, ...]) -> tuple[int, ...]:
    """Collapse repeats, drop blanks."""
    return tuple(a for a, before in zip(frames, (0, *frames[:-1]), strict=True) if a != 0 and (a != before))


def brute_probability(logits: Tensor, label: tuple[int, ...]) -> float:
    """Sum over every path of a line ``[T, K]`` that spells the label."""
    p = torch.softmax(logits.double(), -1).numpy()
    count, classes = p.shape
    paths = itertools.product(range(classes), repeat=count)
    return float(sum(np.prod([p[t, k] for t, k in enumerate(path)]) for path in paths if spelled(path) == label))


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_the_loss_against_all_paths(noise: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 5, 4, generator=generator)
    frames, labels = torch.tensor([5, 4, 3]), [(1, 2), (3, 3), (1,)]
    wanted = []
    for line, count, label in zip(logits, frames, labels, strict=True):
        wanted.append((1.0 - brute_probability(line[:count], label) ** noise) / noise)
    found = labels_loss(logits, frames, [torch.tensor(label) for label in labels], noise)
    assert found.item() == pytest.approx(sum(wanted) / 3, abs=1e-5)


def test_the_loss_is_bounded_and_becomes_ctc() -> None:
    """A hopeless line costs 1 / q and teaches nothing; with a small q the loss is CTC's."""
    logits = torch.full((1, 3, 3), -20.0)
    logits[..., 0] = 20.0
    logits.requires_grad_(True)
    loss = labels_loss(logits, torch.tensor([3]), [torch.tensor([1])], 0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(2.0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6
    mild = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    ctc = -math.log(brute_probability(mild[0], (1, 2)))
    assert labels_loss(mild, torch.tensor([4]), [torch.tensor([1, 2])], 1e-3).item() == pytest.approx(ctc, rel=2e-3)


def test_whether_a_label_fits() -> None:
    features = torch.zeros(3, 2)
    assert Line(features, torch.tensor([1, 2, 1])).fits
    assert Line(features, torch.tensor([1, 1])).fits  # with a blank between
    assert not Line(features, torch.tensor([1, 1, 2])).fits
    assert not Line(features, torch.tensor([], dtype=torch.long)).fits


def test_folding_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = LastLayer(torch.randn(5, 7, generator=generator), torch.randn(7, generator=generator))
    matrix, offset = torch.randn(5, 5, generator=generator), torch.randn(5, generator=generator)
    features = torch.randn(2, 3, 5, generator=generator)
    wanted = layer.logits(features @ matrix + offset)
    assert torch.allclose(layer.after(matrix, offset).logits(features), wanted, atol=1e-5)
    assert torch.equal(layer.only(torch.tensor([0, 3])).weight, layer.weight[:, [0, 3]])


def problem(seed: int, count: int = 400) -> tuple[LastLayer, list[Line], list[Line], Tensor]:
    """Return a layer that confuses classes 1 and 2 where the third feature decides, lines to learn from and others.

    Features are (blank?, 1-or-2, which of them, class 3?); the layer does not look at the third.
    """
    rng = np.random.default_rng(seed)
    weight = torch.tensor([[6.0, 0, 0, 0], [0, 3.0, 2.8, 0], [0.0, 0.1, -0.1, 0], [0, 0, 0, 6.0]])
    layer = LastLayer(weight, torch.zeros(4))
    lines = []
    for _ in range(count):
        label, frames = [], []
        for _ in range(3):
            kind = int(rng.integers(1, 4))
            label.append(kind)
            value = {1: [0, 1.0, 1.0, 0], 2: [0, 1.0, -1.0, 0], 3: [0, 0, 0, 1.0]}[kind]
            frames += [value, [1.0, 0, 0, 0]]
        features = torch.tensor(frames) + 0.05 * torch.from_numpy(rng.standard_normal((6, 4))).float()
        lines.append(Line(features, torch.tensor(label)))
    others = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]]).repeat(50, 1)
    return layer, lines[: count // 2], lines[count // 2 :], others


def right(layer: LastLayer, lines: list[Line]) -> float:
    """Return the share of lines whose frames spell their label."""
    read = layer.best([line.features for line in lines])
    texts = [spelled(tuple(best.tolist())) for best in read]
    return float(np.mean([text == tuple(line.classes.tolist()) for text, line in zip(texts, lines, strict=True)]))


def test_it_learns_what_the_features_know() -> None:
    layer, lines, held, others = problem(0)
    told: list[tuple[int, int]] = []
    after = fit_last_layer(layer, lines, others, 0, progress=lambda *at: told.append(at))
    assert right(after, held) >= right(layer, held) + 0.02
    assert told[-1][0] == told[-1][1] == len(told) > 0
    # What no label speaks of is answered as before.
    assert torch.equal(after.logits(others).argmax(-1), layer.logits(others).argmax(-1))
    assert torch.allclose(after.logits(others), layer.logits(others), atol=0.5)


def test_the_same_seed_learns_the_same() -> None:
    layer, lines, _, others = problem(1, 100)
    first, second = (fit_last_layer(layer, lines, others, 5) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, fit_last_layer(layer, lines, others, 6).weight)


def test_wrong_labels_do_little_harm() -> None:
    """A fifth of the lines with the labels of others: what the rest says is still learned."""
    layer, lines, held, others = problem(2)
    wrong = [
        Line(line.features, lines[(index * 7 + 3) % len(lines)].classes) if index % 5 == 0 else line
        for index, line in enumerate(lines)
    ]
    assert right(fit_last_layer(layer, wrong, others, 0), held) >= right(layer, held)


def test_no_weight_and_lines_that_do_not_fit_change_nothing_much() -> None:
    layer, lines, _, others = problem(3, 60)
    kept = fit_last_layer(layer, lines, others, 0, weight=0.0)
    assert torch.allclose(kept.weight, layer.weight, atol=1e-2)
    short = Line(torch.zeros(1, 4), torch.tensor([1, 2, 3]))
    assert torch.equal(
        fit_last_layer(layer, [*lines, short], others, 0).weight, fit_last_layer(layer, lines, others, 0).weight
    )


def test_without_other_text() -> None:
    layer, lines, held, _ = problem(4)
    assert right(fit_last_layer(layer, lines, torch.zeros(0, 4), 0), held) >= right(layer, held)
