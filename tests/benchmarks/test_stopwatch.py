"""Marks told by a run, and what is read from them; every expected figure is worked out by hand."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from stopwatch import Cost, Stopwatch, Timing, read_timing


def written(folder: Path, marks: list[tuple[str, float]], **more: Any) -> Path:
    """Write marks of (event, wall time); the processor is busy half the time, the peak grows with it."""
    path = folder / "marks.jsonl"
    lines = [{"event": event, "wall": wall, "cpu": wall / 2, "peak_mb": wall, **more} for event, wall in marks]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_run_that_begins_with_its_training(tmp_path: Path) -> None:
    marks = [("pass", 200.0), ("begin", 200.0), ("end", 207.0), ("begin", 207.0), ("end", 209.0)]
    marks += [("begin", 209.0), ("end", 212.0), ("begin", 212.0), ("end", 214.0), ("done", 216.0)]
    timing = read_timing(written(tmp_path, marks), 100.0, 220.0)
    # Steps of 2, 3, 2 after the first: the median is 2, and the first one's other 5 seconds are start-up.
    assert timing == Timing(
        start=Cost(105.0, 102.5),
        prepare=Cost(0.0, 0.0),
        step=Cost(2.0, 1.0),
        total=Cost(120.0, 108.0),
        steps=4,
        peak_mb=216.0,
    )
    assert Timing.from_json(json.loads(json.dumps(asdict(timing)))) == timing


def test_calibration_lies_between_the_first_image_and_the_first_step(tmp_path: Path) -> None:
    marks = [("images", 104.0), ("pass", 110.0), ("begin", 111.0), ("end", 113.0), ("begin", 113.0), ("end", 115.0)]
    timing = read_timing(written(tmp_path, marks), 100.0, 116.0)
    assert (timing.start, timing.prepare, timing.step) == (Cost(4.0, 52.0), Cost(7.0, 3.5), Cost(2.0, 1.0))
    assert timing.to_training == Cost(11.0, 55.5)


def test_the_last_pass_is_the_training(tmp_path: Path) -> None:
    marks = [("pass", 1.0), ("begin", 1.0), ("end", 1.5)]  # PaddleSlim looks at one batch when it is set up
    marks += [("pass", 50.0), ("begin", 50.0), ("end", 53.0), ("begin", 53.0), ("end", 56.0)]
    timing = read_timing(written(tmp_path, marks), 0.0, 60.0)
    assert (timing.start.wall, timing.steps, timing.step.wall) == (50.0, 2, 3.0)


def test_a_step_ends_when_it_says_so_and_not_with_the_judging_after_it(tmp_path: Path) -> None:
    marks = [("pass", 0.0), ("begin", 0.0), ("step", 1.0), ("end", 1.0)]
    marks += [("begin", 1.0), ("step", 2.0), ("end", 90.0)]
    assert read_timing(written(tmp_path, marks), 0.0, 91.0).step.wall == 1.0


def test_a_single_step_is_all_there_is(tmp_path: Path) -> None:
    marks = [("pass", 5.0), ("begin", 5.0), ("end", 9.0)]
    timing = read_timing(written(tmp_path, marks), 0.0, 10.0)
    assert (timing.start.wall, timing.step.wall, timing.steps) == (5.0, 4.0, 1)


def test_a_quicker_first_step_is_no_negative_start(tmp_path: Path) -> None:
    marks = [("pass", 5.0), ("begin", 5.0), ("end", 6.0), ("begin", 6.0), ("end", 9.0)]
    assert read_timing(written(tmp_path, marks), 0.0, 10.0).start == Cost(5.0, 2.5)


@pytest.mark.parametrize("marks", [[], [("images", 1.0)], [("pass", 1.0), ("begin", 1.0)]])
def test_a_run_without_a_step_is_refused(tmp_path: Path, marks: list[tuple[str, float]]) -> None:
    with pytest.raises(ValueError, match="no training step"):
        read_timing(written(tmp_path, marks), 0.0, 1.0)


def test_memory_is_unknown_where_nobody_tells(tmp_path: Path) -> None:
    marks = [("pass", 1.0), ("begin", 1.0), ("end", 2.0)]
    assert read_timing(written(tmp_path, marks, peak_mb=None), 0.0, 3.0).peak_mb is None


def test_the_watch_marks_what_is_read(tmp_path: Path) -> None:
    started = time.time()
    watch = Stopwatch(tmp_path / "marks.jsonl")
    watch.mark("images", note="é")
    seen = []
    for batch in watch.timed([1, 2, 3]):
        seen.append(batch)
        time.sleep(0.02)
        if batch == 2:
            break  # the loop over the batches may end early, as PaddleSlim's does
    timing = read_timing(tmp_path / "marks.jsonl", started, time.time())
    assert seen == [1, 2]
    assert timing.steps == 2
    assert 0.015 < timing.step.wall < timing.total.wall
    assert timing.step.cpu < timing.step.wall
    assert timing.peak_mb is None or timing.peak_mb > 1
