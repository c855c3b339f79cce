"""Where a run puts int8: who asks the clock, what the answer does to a placement, and what takes the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ocrslim import compress as module
from ocrslim import placing
from ocrslim.compress import CompressSettings
from ocrslim.delivery import Delivery
from ocrslim.engines.targets import get_target
from ocrslim.errors import InputError
from ocrslim.graph.inspect import node_macs
from ocrslim.placing import (
    SLOW_REASON,
    SMALL_REASON,
    TABLE,
    fastest,
    is_faster,
    measured,
    place_sites,
    small_sites,
    time_candidates,
)
from ocrslim.report.front import pareto_front
from ocrslim.scene import EFFORTS, FLOAT_REASON, Candidate, Scene
from ocrslim.slimming.quantization.measured import Measured, Trial
from ocrslim.slimming.quantization.placement import place


def changed(scene: Any, **what: Any) -> Scene:
    return cast("Scene", SimpleNamespace(**(vars(scene) | what)))


@pytest.mark.parametrize(
    "what",
    [
        {"effort": EFFORTS["quick"]},
        {"target": get_target("paddle")},
        {"target": get_target("tensorrt")},
        {"settings": CompressSettings("openvino", Path("x"), placement="policy")},
        {"settings": CompressSettings("openvino", Path("x"), placement="largest")},
        {"settings": CompressSettings("openvino", Path("x"), example=cast("Any", object()))},
    ],
    ids=["quick", "paddle", "tensorrt", "policy", "largest", "a file says it"],
)
def test_the_clock_is_not_always_asked(scene: Any, what: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "measure_placement", None)  # a call would fail
    given = changed(scene, **what)
    assert measured(given) is given


def test_quick_asks_where_it_is_told_to(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial("depthwise convolutions at 12x160", ("a", "b"), int8=True, saved=0.123, kept=True)
    asked: list[tuple[Any, ...]] = []

    def measure(*given: Any) -> Measured:
        asked.append(given)
        return Measured(frozenset("c"), frozenset("ab"), ratio=0.875, trials=(trial,))

    monkeypatch.setattr(placing, "measure_placement", measure)
    monkeypatch.setattr(placing, "replace", lambda scene, **what: changed(scene, **what))
    settings = CompressSettings("openvino", Path("x"), placement="measured", threads=3, shape=(48, 96), batch=6)
    found = measured(changed(scene, effort=EFFORTS["quick"], settings=settings))
    assert found.measured.fast == {"a", "b"}
    graph, target, shape, threads = asked[0][:4]
    assert (graph, target, shape, threads) == (scene.graph, scene.target, (6, 3, 48, 96), 3)
    assert asked[0][6].name == TABLE
    scene.log.close()
    log = (scene.settings.out / "log.txt").read_text("utf-8")
    assert "2 depthwise convolutions at 12x160 to int8: +12.3 % of the time saved, done" in log
    assert "2 more sites in int8, 1 fewer than usual, 0.88 of the usual placement's time" in log


def test_a_placement_is_the_policys_mended_by_the_clock(scene: Any) -> None:
    usual = place(scene.graph, scene.target)
    fast, slow, kept = usual.optional[0], usual.sites[0].node, usual.sites[1].node
    given = changed(scene, measured=Measured(frozenset({slow}), frozenset({fast}), frozenset({slow})))
    placement = place_sites(given, [kept])
    sites = {site.node for site in placement.sites}
    assert not {fast, slow, kept} & sites  # what is faster in int8 is a candidate of its own
    assert placement.float_nodes[slow] == SLOW_REASON
    assert placement.float_nodes[kept] == FLOAT_REASON
    faster = place_sites(changed(given, fast=True))
    assert {site.node for site in faster.sites} == sites | {fast, kept}
    both = Measured(frozenset({slow}), frozenset({fast}))  # float only beside what is int8 there
    assert slow in {site.node for site in place_sites(changed(scene, measured=both)).sites}
    assert slow not in {site.node for site in place_sites(changed(scene, measured=both, fast=True)).sites}
    assert place_sites(changed(scene, keep_float=frozenset({slow}))).float_nodes[slow] == "kept float on request"


def test_the_largest_are_as_few_as_hold_half_of_the_work(scene: Any) -> None:
    policy = place(scene.graph, scene.target)
    asked = changed(scene, small=small_sites(scene.graph, scene.target, "rec"))
    placement = place_sites(asked)
    macs = node_macs(scene.graph, (1, 3, 48, 320))
    assert macs is not None
    work = {site.node: macs[site.node] for site in policy.sites}
    largest = [site.node for site in placement.sites]
    held = sum(work[name] for name in largest)
    assert held >= 0.5 * sum(work.values()) > held - min(work[name] for name in largest)
    small = work.keys() - set(largest)
    assert min(work[name] for name in largest) >= max(work[name] for name in small)
    assert {placement.float_nodes[name] for name in small} == {SMALL_REASON}
    assert largest[0] not in {site.node for site in place_sites(asked, largest[:1]).sites}  # the climb may go on
    # Of what has to stay float nothing is the largest.
    asked = scene.graph, scene.target, "rec", frozenset(largest)
    fewer = place_sites(changed(scene, keep_float=frozenset(largest), small=small_sites(*asked)))
    assert fewer.sites
    assert not set(largest) & {site.node for site in fewer.sites}


def test_the_largest_of_unknown_sizes_are_not_guessed(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "node_macs", lambda graph, shape: None)
    with pytest.raises(InputError, match=r"--placement largest: .*take --placement policy"):
        small_sites(scene.graph, scene.target, "rec")


def test_only_where_they_are_asked_for_the_largest_are_alone(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Delivery(scene.source, scene.target, 2)
    monkeypatch.setattr(Delivery, "try_writing", lambda self, graph: None)
    monkeypatch.setattr(module, "fit_target", lambda target, quantization: (target, ["said"]))
    monkeypatch.setattr(module, "kept_float", lambda graph, quantization: frozenset({"a"}))
    follow = cast("Any", SimpleNamespace(plan=SimpleNamespace(quantization=None), notes=list))
    small = small_sites(scene.graph, scene.target, "rec")

    def asked(follow: Any, placement: str | None) -> dict[str, Any]:
        return module._follow_placement(follow, delivery, scene.graph, placement, scene.log)[1]

    assert asked(None, "largest") == {"small": small}
    assert asked(None, None) == asked(None, "policy") == {}
    assert asked(follow, "largest") == {"keep_float": {"a"}}, "a file says itself what becomes int8"


def test_the_fastest_placement_may_quantize_outputs(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        placing, "replace", lambda what, **new: changed(what, **new) if what is scene else replace(what, **new)
    )
    scene.measured = Measured(fast=frozenset("ab"))
    assert fastest(scene).fast
    assert fastest(scene).target == scene.target
    scene.measured = Measured(outputs=True)
    assert fastest(scene).target == replace(scene.target, quantize_outputs=True)
    assert any(site.output_value for site in place_sites(fastest(scene)).sites)


def test_what_has_the_same_sites_is_timed_once(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = place(scene.graph, scene.target)
    other = place(scene.graph, scene.target, also=usual.optional)
    opened: list[str] = []

    def candidate(name: str, placement: Any, *, passed: bool = True, judged: bool = True) -> Candidate:
        quantization = SimpleNamespace(placement=placement, factors={}, target=scene.target)
        verified = SimpleNamespace(passed=passed)
        return Candidate(
            name, cast("Any", quantization), Path(name), cast("Any", verified), 0.1, cast("Any", judged or None)
        )

    def time_rounds(sessions: Sequence[object], batch: NDArray[np.float32], rounds: int) -> NDArray[np.float64]:
        assert batch.shape == (1, 3, 48, 320)
        return np.array([[2.0, 1.0, 0.8]] * rounds) * np.linspace(1, 2, rounds)[:, None]

    monkeypatch.setattr(placing, "time_rounds", time_rounds)
    tried = [
        candidate("a", usual),
        candidate("b", usual),
        candidate("c", other),
        candidate("wrong", other, passed=False),
        candidate("unjudged", usual, judged=False),
    ]
    given = changed(scene, open=lambda path: opened.append(str(path)))
    time_candidates(given, tried, Path("float"))
    assert opened == ["float", "a", "c"]
    assert [item.time for item in tried] == [0.5, 0.5, 0.4, None, None]
    for item in tried:
        item.time = None
    time_candidates(changed(given, target=get_target("paddle")), tried, Path("float"))
    assert [item.time for item in tried] == [None] * 5


@pytest.mark.parametrize(("ratio", "faster"), [(0.9, True), (0.985, False), (1.4, False)])
def test_a_faster_placement_has_to_be_faster_with_its_real_grids(
    scene: Any, monkeypatch: pytest.MonkeyPatch, ratio: float, faster: bool
) -> None:
    usual = place(scene.graph, scene.target)
    asked: list[int] = []

    def candidate(name: str, factors: dict[str, Any]) -> Candidate:
        quantization = SimpleNamespace(placement=usual, factors=factors)
        return Candidate(name, cast("Any", quantization), Path(name), cast("Any", None), 0.1)

    def time_rounds(sessions: Sequence[object], batch: object, rounds: int) -> NDArray[np.float64]:
        asked.append(len(sessions))
        return np.array([[1.0, ratio]] * rounds) * np.linspace(1, 2, rounds)[:, None]

    monkeypatch.setattr(placing, "time_rounds", time_rounds)
    given = changed(scene, open=lambda path: path)
    plain, channels = candidate("usual", {}), candidate("faster", {"a": 1})
    assert is_faster(given, channels, plain) is faster
    assert is_faster(given, channels, plain) is faster
    assert asked == [2]  # the table knows it
    is_faster(given, plain, channels)
    assert asked == [2, 2]  # other factors are another question
    is_faster(changed(given, settings=CompressSettings("openvino", Path("x"), threads=7)), channels, plain)
    assert asked == [2, 2, 2]  # so are other threads


def test_nothing_beats_what_is_on_the_front() -> None:
    points = [(0.6, 0.1), (0.6, 0.1), (0.5, 0.3), (0.7, 0.2), (0.99, 0.0), (1.0, 0.1)]
    assert pareto_front(cast("Any", points)) == {0, 1, 2, 4}
    assert pareto_front([]) == set()
    assert pareto_front([(None, -3.0)]) == set()


FOUND = Measured(
    frozenset("a"), frozenset("bc"), frozenset(), 0.9, (Trial("kind at 1x1", ("b", "c"), True, 0.1, True),)
)


def test_the_clock_is_told_of_the_largest(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small = placing._small(scene)
    assert small == small_sites(scene.graph, scene.target, "rec")
    assert small
    asked: list[Any] = []
    monkeypatch.setattr(placing, "replace", changed)
    monkeypatch.setattr(placing, "measure_placement", lambda *given: asked.append(given[-1]) or FOUND)
    measured(scene)
    assert asked == [small]
    monkeypatch.setattr(placing, "node_macs", lambda graph, shape: None)
    assert placing._small(scene) == frozenset()


def test_outputs_are_another_kind_to_time(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = place(scene.graph, scene.target)
    other = replace(scene.target, quantize_outputs=True)
    opened: list[str] = []

    def candidate(name: str, target: Any) -> Candidate:
        quantization = SimpleNamespace(placement=usual, factors={}, target=target)
        passed = SimpleNamespace(passed=True)
        return Candidate(name, cast("Any", quantization), Path(name), cast("Any", passed), 0.1, cast("Any", True))

    monkeypatch.setattr(placing, "time_rounds", lambda sessions, batch, rounds: np.array([[2.0, 1.0, 0.8]] * rounds))
    tried = [candidate("a", scene.target), candidate("b", other)]
    time_candidates(changed(scene, open=lambda path: opened.append(str(path))), tried, Path("float"))
    assert opened == ["float", "a", "b"]
    asked: list[str] = []

    def ratios(scene: Any, first: Path, others: Sequence[Path]) -> list[float]:
        asked.append(str(first))
        return [0.9]

    monkeypatch.setattr(placing, "_ratios", ratios)
    with_outputs = changed(scene, measured=Measured(outputs=True))
    for given in (scene, with_outputs, scene, with_outputs):
        is_faster(given, tried[1], tried[0])
    assert len(asked) == 2  # what was timed without says nothing of them
