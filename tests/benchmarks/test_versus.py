"""The table and the words under it, from rows made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console
from stopwatch import Cost, Timing
from versus import HEADINGS, OURS, THEIRS, Row, markdown, terminal, verdicts

QUICK = Timing(Cost(4.0, 3.0), Cost(6.0, 9.0), Cost(2.0, 4.0), Cost(40.0, 70.0), steps=20, peak_mb=1000.0)
SLOW = Timing(Cost(200.0, 190.0), Cost(0.0, 0.0), Cost(10.0, 16.0), Cost(420.0, 700.0), steps=20, peak_mb=1900.0)
OURS_ROW = Row("a", OURS, 8, QUICK, "accuracy", 300, 0.6, 0.59, 1.0, -0.5, 2.25)
THEIRS_ROW = Row("a", THEIRS, 8, SLOW, "accuracy", 300, 0.6, 0.5, 10.0, 7.0, 13.0)


def test_cells_are_per_image() -> None:
    assert OURS_ROW.cells() == (
        *("a", "ocrslim", "0.250 (0.500)", "4.0 (3.0)", "6.0 (9.0)", "40 (70)", "1000"),
        *("accuracy", "300", "0.6000", "0.5900", "+1.00 (-0.50 to +2.25)"),
    )


def test_what_failed_is_dashes_and_a_line() -> None:
    failed = Row("a", THEIRS, 8, note="failed (1)")
    assert failed.cells() == ("a", "PaddleSlim", *("–",) * 10)
    assert list(verdicts([OURS_ROW, failed])) == ["a, PaddleSlim: failed (1)"]
    assert failed.per_image is None


def test_json_has_the_figures_of_the_table() -> None:
    told = OURS_ROW.to_json()
    assert told["per_image"] == {"wall": 0.25, "cpu": 0.5}
    assert told["timing"]["start"] == {"wall": 4.0, "cpu": 3.0}


def test_markdown_has_a_cell_under_every_heading() -> None:
    head, rule, *body = markdown([OURS_ROW, THEIRS_ROW], ["said\nso"]).splitlines()
    assert {line.count("|") for line in (head, rule, *body[:2])} == {len(HEADINGS) + 1}
    assert body[2:] == ["", "- said so"]


def test_terminal_cuts_nothing() -> None:
    console = Console(width=300, force_terminal=False)
    with console.capture() as caught:
        console.print(terminal([OURS_ROW, THEIRS_ROW]))
    assert all(cell in caught.get() for cell in (*OURS_ROW.cells(), *THEIRS_ROW.cells()))


def test_verdict_tells_all_that_was_asked() -> None:
    assert list(verdicts([OURS_ROW, THEIRS_ROW])) == [
        "a, ocrslim against PaddleSlim: 5.0 times less time per image and step; start-up 4.0"
        " (3.0) s against 200.0 (190.0), with calibration 10.0 (12.0); the whole command 40 (70) s against 420"
        " (700); less memory, 1000 against"
        " 1900 MiB; 9.00 points more accuracy"
    ]


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (replace(OURS_ROW, timing=replace(QUICK, step=Cost(4.0, 4.0))), "2.5 times less time per image and step, less"
         " than the 4 that were asked"),
        (replace(OURS_ROW, timing=replace(QUICK, step=Cost(2.5, 4.0))), "4.0 times less time per image and step;"),
        (replace(OURS_ROW, timing=replace(QUICK, peak_mb=3000.0)), "MORE memory, 3000 against 1900 MiB"),
        (replace(OURS_ROW, int8_score=0.48), "2.00 points LESS accuracy"),
        (replace(OURS_ROW, int8_score=0.5), "the same accuracy"),
    ],
)  # fmt: skip
def test_verdict_hides_nothing(ours: Row, said: str) -> None:
    assert said in next(verdicts([ours, THEIRS_ROW]))


@pytest.mark.parametrize("busy", [OURS, THEIRS])
def test_beside_other_programs_processor_time_decides_and_wall_times_are_void(busy: str) -> None:
    # By the clock 5 times less, by the processor 4: another program took the cores of one of them.
    rows = [replace(row, others=1.5 if row.by == busy else 0.0) for row in (OURS_ROW, THEIRS_ROW)]
    told = next(verdicts(rows))
    assert "4.0 times less processor time per image and step;" in told
    assert "5.0 times" not in told
    assert "start-up – (3.0) s against – (190.0), with calibration – (12.0)" in told
    disturbed, quiet = sorted(rows, key=lambda row: row.by != busy)
    assert disturbed.cells()[2].startswith("– (")
    assert not quiet.cells()[2].startswith("–")


def test_too_little_is_told_beside_other_programs_too() -> None:
    ours = replace(OURS_ROW, others=1.0, timing=replace(QUICK, step=Cost(0.1, 8.0)))
    assert "2.0 times less processor time per image and step, less than the 4" in next(verdicts([ours, THEIRS_ROW]))


def test_verdict_leaves_out_what_nobody_knows() -> None:
    ours = replace(OURS_ROW, int8_score=None, timing=replace(QUICK, peak_mb=None))
    told = next(verdicts([ours, THEIRS_ROW]))
    assert "memory" not in told
    assert "points" not in told


def test_other_batches_compare_by_image() -> None:
    ours = replace(OURS_ROW, batch=4)  # 0.5 s against 1.25 s
    assert "2.5 times less time" in next(verdicts([ours, THEIRS_ROW]))


def test_nothing_to_compare_is_nothing_said() -> None:
    assert list(verdicts([OURS_ROW])) == []
    assert list(verdicts([THEIRS_ROW, replace(OURS_ROW, model="b")])) == []
