"""The table and the verdicts under it, from rows made by hand."""

from __future__ import annotations

import pytest
from rich.console import Console
from sheet import HEADINGS, Row, markdown, terminal, verdicts


def row(by: str, score: float | None, time: float | None = None, model: str = "a", engine: str = "openvino") -> Row:
    return Row(model, engine, by, metric="accuracy", n=100, score=score, time=time)


FULL = Row(
    "PP-OCRv4_mobile_rec",
    "openvino",
    "nncf",
    "mixed",
    "accuracy",
    1601,
    0.54341,
    5.681,
    4.5,
    6.876,
    0.731,
    1.25,
    3_500_000,
)


def test_cells_round_and_sign() -> None:
    assert FULL.cells() == (
        *("PP-OCRv4_mobile_rec", "openvino", "nncf", "accuracy", "1601", "0.5434"),
        *("+5.68 (+4.50 to +6.88)", "0.73", "1.2", "mixed"),
    )


def test_what_is_missing_is_a_dash_and_a_note() -> None:
    cells = Row("a", "openvino", "nncf", note="nncf is not installed").cells()
    assert cells == ("a", "openvino", "nncf", "", "–", "–", "–", "–", "–", "nncf is not installed")


def test_markdown_has_a_cell_under_every_heading() -> None:
    bar = Row("a", "openvino", "nncf", note="one | two")
    head, rule, *body = markdown([FULL, bar], ["said so"]).splitlines()
    assert head.count("|") == rule.count("|") == len(HEADINGS) + 1
    assert [line.count("|") for line in body[:2]] == [len(HEADINGS) + 1] * 2
    assert "0.5434" in body[0]
    assert "one / two" in body[1]
    assert body[2:] == ["", "- said so"]


def test_terminal_cuts_nothing() -> None:
    console = Console(width=200, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as caught:
        console.print(terminal([FULL]))
    told = caught.get()
    assert all(cell in told for cell in FULL.cells())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("ocrslim", 0.6), row("nncf", 0.6)], "none less accurate; not timed"),
        ([row("ocrslim", 0.59), row("nncf", 0.6)], "less accurate on a (1.00 points); not timed"),
        ([row("ocrslim", 0.6, 0.8), row("nncf", 0.5, 0.8)], "none less accurate; none of 1 slower"),
        ([row("ocrslim", 0.6, 0.9), row("nncf", 0.5, 0.75)], "none less accurate; slower on a (1.20 times)"),
        ([row("ocrslim", 0.6, 0.9), row("nncf", 0.5, None)], "none less accurate; not timed"),
    ],
)
def test_verdicts_tell_where_we_lose(rows: list[Row], said: str) -> None:
    assert list(verdicts(rows)) == [f"openvino, ocrslim against nncf, 1 models: {said}"]


def test_verdicts_count_only_models_that_both_have() -> None:
    rows = [row("ocrslim", 0.6), row("nncf", None), row("ocrslim", 0.6, model="b"), row("nncf", 0.5, model="b")]
    assert list(verdicts(rows)) == ["openvino, ocrslim against nncf, 1 models: none less accurate; not timed"]
    assert list(verdicts([row("float", 0.6), row("ocrslim", 0.6)])) == []


def test_verdicts_keep_engines_and_rivals_apart() -> None:
    rows = [
        *(row("ocrslim", 0.6), row("nncf", 0.7), row("onnxruntime", 0.5)),
        *(row("ocrslim", 0.6, engine="onnxruntime"), row("nncf", 0.5, engine="onnxruntime")),
    ]
    told = list(verdicts(rows))
    assert [line.split(", 1 models")[0] for line in told] == [
        "openvino, ocrslim against nncf",
        "openvino, ocrslim against onnxruntime",
        "onnxruntime, ocrslim against nncf",
    ]
    assert "less accurate on a (10.00 points)" in told[0]
    assert "none less accurate" in told[1]
