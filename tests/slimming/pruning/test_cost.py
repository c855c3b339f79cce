"""Costs: counting by hand, and a clock whose answers are kept."""

from __future__ import annotations

import json
from pathlib import Path

import onnx_ir as ir
import pytest

from ocrslim.engines.session import ENGINES
from ocrslim.engines.timing import TimeRatio
from ocrslim.graph.inspect import count_macs
from ocrslim.slimming.pruning.cost import LEAST, Clock, Counter, Whole
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels

SHAPE = (1, 3, 16, 16)


def halves(chain: Channels) -> dict[str, list[int]]:
    return {group.name: list(group.units[: group.width // 2]) for group in chain.groups if not group.reason}


def test_multiplications_are_those_of_the_smaller_graph(chain: Channels) -> None:
    counter = Counter(chain, macs_per_float=0.0)
    removed = halves(chain)["a"] + halves(chain)["e"]
    whole, smaller = (count_macs(model, SHAPE) for model in (chain.model, cut(chain, removed)))
    assert counter.ratio(removed) == pytest.approx(smaller / whole)
    assert counter.ratio([]) == 1.0


def test_savings_go_beyond_what_is_removed_already(chain: Channels) -> None:
    counter, half = Counter(chain), halves(chain)
    alone = counter.savings([], [half["b"]])[0].share
    after = counter.savings(half["a"], [half["b"]])[0].share
    assert 0 < after < alone
    assert counter.ratio(half["a"] + half["b"]) == pytest.approx(counter.ratio(half["a"]) - after)


def test_moving_floats_counts(chain: Channels) -> None:
    half = halves(chain)["a"]
    assert Counter(chain, 0.0).ratio(half) != pytest.approx(Counter(chain, 100.0).ratio(half), rel=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_clock_times_what_is_cut(engine: str, chain: Channels) -> None:
    removed = [unit for units in halves(chain).values() for unit in units]

    def seen() -> bool:
        clock = Clock(chain, engine, 1, (1, 3, 224, 224))
        half, one = clock.savings([], [removed, halves(chain)["e"][:1]])
        return half.pays and half.share > one.share and 0.0 < clock.ratio(removed) < 1.0

    # Half of all channels is three quarters of the work; on a machine that does other work it may take a few looks.
    assert any(seen() for _ in range(5))


def test_answers_are_kept_by_widths(chain: Channels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []

    def time(self: Clock, graphs: list[set[int]], rounds: int) -> list[TimeRatio]:
        timed.append(len(graphs))
        return [TimeRatio(1.0 - 0.01 * len(graph), 0.001) for graph in graphs[1:]]

    monkeypatch.setattr(Clock, "_time", time)
    table = tmp_path / "latency.json"
    half = halves(chain)
    clock = Clock(chain, "openvino", 2, SHAPE, table)
    first = clock.savings([], [half["a"], half["b"]])
    assert timed == [4]  # the model twice, and both candidates
    assert [saving.share for saving in first] == pytest.approx([0.16, 0.12])
    # Other channels of the same groups: the same widths, the same time. A new clock reads the table.
    others = [list(group.units[-len(half[group.name]) :]) for group in chain.groups if group.name in ("a", "b")]
    again = Clock(chain, "openvino", 2, SHAPE, table).savings([], others)
    assert again == first
    assert timed == [4]
    assert len(json.loads(table.read_text())) == 2
    Clock(chain, "openvino", 1, SHAPE, table).savings([], others)
    assert timed == [4, 4], "other threads, another time"


def test_looks_again_are_others_and_are_kept(chain: Channels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([0.70, 0.79, 0.71, 0.75])
    monkeypatch.setattr(Clock, "_time", lambda self, graphs, rounds: [TimeRatio(next(answers), 0.001)])
    half = halves(chain)["a"]
    clock = Clock(chain, "openvino", 2, SHAPE, tmp_path / "table.json")
    assert clock.ratio(half) == 0.70
    assert clock.again(half) == 0.75, "the median of the three looks after the first"
    resumed = Clock(chain, "openvino", 2, SHAPE, tmp_path / "table.json")
    assert (resumed.ratio(half), resumed.again(half)) == (0.70, 0.75), "an interrupted run ends in the same model"
    assert clock.again(()) == 1.0, "of the whole model there is nothing to time"


def test_what_noise_could_explain_does_not_pay(chain: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [TimeRatio(1.05, 0.001), TimeRatio(0.97, 0.001), TimeRatio(0.9, 0.06), TimeRatio(0.9, 0.01)]
    monkeypatch.setattr(Clock, "_time", lambda self, graphs, rounds: times)
    half = halves(chain)
    little, unsure, much = Clock(chain, "openvino", 2, SHAPE).savings([], [half["a"], half["b"], half["c"]])
    assert not little.pays  # less than two files of one model differ by
    assert not unsure.pays  # less than two standard errors
    assert much.pays
    assert much.share == pytest.approx(0.1)
    assert LEAST < 0.01


def test_many_candidates_are_timed_a_few_at_a_time(chain: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []

    def time(self: Clock, graphs: list[set[int]], rounds: int) -> list[TimeRatio]:
        timed.append(len(graphs))
        return [TimeRatio(1.0 - 0.01 * len(graph), 0.001) for graph in graphs[1:]]

    monkeypatch.setattr(Clock, "_time", time)
    units = chain.groups[0].units
    found = Clock(chain, "openvino", 2, SHAPE).savings([], [units[:count] for count in range(1, 9)])
    assert timed == [8, 4]
    assert [saving.share for saving in found] == pytest.approx([0.01 * count for count in range(1, 9)])


def test_the_users_file_is_what_times_are_compared_with(
    chain: Channels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[object]] = []

    def time(self: Clock, graphs: list[set[int] | None], rounds: int) -> list[TimeRatio]:
        asked.append(list(graphs))
        first, *others = (2.0 if graph is None else 1.5 - 0.01 * len(graph) for graph in graphs)
        return [TimeRatio(other / first, 0.001) for other in others]

    monkeypatch.setattr(Clock, "_time", time)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    half = halves(chain)
    clock = Clock(chain, "openvino", 2, SHAPE, tmp_path / "table.json", Whole(path, lambda model: model))
    assert clock.ratio(()) == pytest.approx(0.75)
    assert asked == [[None, ()]]
    (saving,) = clock.savings([], [half["a"]])
    assert saving.share == pytest.approx(0.16 / 1.5 * 0.75)
    path.write_bytes(b"another")
    asked.clear()
    Clock(chain, "openvino", 2, SHAPE, tmp_path / "table.json", Whole(path, lambda model: model)).ratio(())
    assert asked == [[None, ()]], "another file, another time"


def test_what_is_timed_is_what_is_written(chain: Channels, tmp_path: Path) -> None:
    path, written = tmp_path / "model.onnx", []
    ir.save(chain.model, path)

    def write(model: ir.Model) -> ir.Model:
        written.append(model)
        return model

    clock = Clock(chain, "openvino", 1, SHAPE, None, Whole(path, write))
    assert 0.2 < clock.ratio(()) < 5.0  # the same graph twice, on a machine that may do other work
    assert len(written) == 1  # the file itself is timed as it is
