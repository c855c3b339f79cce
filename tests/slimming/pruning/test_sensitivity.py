"""Sensitivity: every group alone, the shares asked for, against a cut by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.importance import magnitude
from ocrslim.slimming.pruning.moments import collect_moments
from ocrslim.slimming.pruning.sensitivity import Answers, measure_groups, weighed


def squared(answer: Tensor, target: Tensor) -> float:
    return (answer - target).square().mean().item()


def test_each_group_at_each_share(chain: Channels, batches: list[Tensor]) -> None:
    scores = magnitude(chain)
    rows = measure_groups(chain, scores, batches[:1], "z", squared, {})
    assert {row["group"]: list(row["divergence"]) for row in rows} == {
        "a": [8, 16, 24], "b": [6, 12, 18], "c": [4, 8, 12], "e": [4, 8, 12]
    }  # fmt: skip
    worst = [max(row["divergence"].values()) for row in rows]
    assert worst == sorted(worst, reverse=True)
    group = next(group for group in chain.groups if group.name == "b")
    gone = sorted(group.units, key=scores.__getitem__)[:6]
    with torch.no_grad():
        target = GraphModule(chain.model)(batches[0], fetch=("z",))["z"]
        answer = GraphModule(cut(chain, gone))(batches[0], fetch=("z",))["z"]
    found = next(row["divergence"][6] for row in rows if row["group"] == "b")
    assert found == pytest.approx(squared(answer, target), rel=1e-5)


def test_a_share_that_is_no_channel_or_all_is_left_out(chain: Channels, batches: list[Tensor]) -> None:
    rows = measure_groups(chain, magnitude(chain), batches[:1], "z", squared, {}, ratios=(0.001, 0.5, 0.999))
    assert all(list(row["divergence"]) == [row["width"] // 2] for row in rows)


def test_repaired_layers_move_the_answers_less(chain: Channels, batches: list[Tensor]) -> None:
    scores, moments = magnitude(chain), collect_moments(chain, batches)
    bare, repaired = (measure_groups(chain, scores, batches, "z", squared, given) for given in ({}, moments))
    before, after = (sum(sum(row["divergence"].values()) for row in rows) for rows in (bare, repaired))
    assert 0 < after < before


def test_scores_take_the_scale_of_what_was_measured(chain: Channels) -> None:
    scores = magnitude(chain)
    rows = [{"group": "a", "divergence": {8: 3.0, 16: 9.0}}, {"group": "b", "divergence": {6: 0.0}}]
    found = weighed(chain, scores, rows)
    groups = {group.name: sorted(group.units, key=scores.__getitem__) for group in chain.groups if not group.reason}
    assert sum(found[unit] for unit in groups["a"][:8]) == pytest.approx(3.0)
    assert sum(found[unit] for unit in groups["a"][8:16]) == pytest.approx(6.0, rel=0.2)  # raised where it would fall
    assert sum(found[unit] for unit in groups["b"]) < 1e-6  # nothing moved
    for name, units in groups.items():
        assert sorted(units, key=found.__getitem__) == units, name  # the order within a group stays
    told = sum(scores[unit] for unit in (*groups["a"][:16], *groups["b"][:6]))
    assert found[groups["c"][0]] == pytest.approx(scores[groups["c"][0]] * 9.0 / told)  # unmeasured: the mean scale


def test_answers_are_those_of_what_is_left(chain: Channels, batches: list[Tensor]) -> None:
    answers = Answers(chain, batches, "z", squared, {})
    gone = [*chain.groups[0].units[:8], *chain.groups[1].units[:4]]
    with torch.no_grad():
        smaller, whole = (GraphModule(model) for model in (cut(chain, gone), chain.model))
        far = [squared(smaller(one, fetch=("z",))["z"], whole(one, fetch=("z",))["z"]) for one in batches]
    assert answers.moved(()) == 0.0
    assert answers.moved(gone) == pytest.approx(sum(far) / len(far), rel=1e-5)
