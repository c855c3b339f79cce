"""Tables: every figure that a reader needs is on the screen, and it is the file's figure."""

from __future__ import annotations

import copy
import io
import re
from typing import Any

import pytest
from rich.console import Console, RenderableType

from ocrslim.graph.importers.zoo import MODELS
from ocrslim.report.table import bench_table, eval_table, inspect_table, models_table, result_table


def shown(table: RenderableType, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def line_of(text: str, *words: str) -> str:
    """Return the only line that has all the words."""
    found = [line for line in text.splitlines() if all(word in line for word in words)]
    assert len(found) == 1, f"{words} are on {len(found)} lines of\n{text}"
    return found[0]


def bench_row(label: str, engine: str, median: float, ratio: float, **others: Any) -> dict[str, Any]:
    row = {
        "label": label,
        "engine": engine,
        "median_ms": median,
        "p10": median * 0.9,
        "p90": median * 1.1,
        "ratio": ratio,
        "ratio_on_engine": ratio,
        "runs": 30,
        "peak_rss_mb": 123.4,
        "bytes": 10_857_958,
        "threads": 2,
        "shape": [1, 3, 48, 320],
        "cpu": "AMD EPYC",
        "flags": ["avx2", "fma"],
        "versions": {"python": "3.11.7", "onnxruntime": "1.32.0"},
        "other_load": 0.01,
    }
    return row | others


EVAL = {
    "task": "rec",
    "engine": "openvino",
    "n": 1601,
    "skipped": [],
    "metrics": {"norm_edit_distance": 0.9012, "accuracy": 0.58089},
    "per_set": {
        "street": {"n": 1000, "accuracy": 0.5, "norm_edit_distance": 0.8},
        "books": {"n": 601, "accuracy": 0.75, "norm_edit_distance": 0.9},
    },
    "protocol": {"name": "PaddleOCR", "ignore_space": False, "width": None, "max_text_length": 25},
    "seconds": 61.26,
}


def test_eval_shows_every_set_and_all() -> None:
    text = shown(eval_table(EVAL))
    assert line_of(text, "all").split() == ["all", "1601", "0.5809", "0.9012"]  # accuracy goes first
    assert line_of(text, "street").split() == ["street", "1000", "0.5000", "0.8000"]
    assert line_of(text, "books").split() == ["books", "601", "0.7500", "0.9000"]
    assert "61.3 s" in text
    assert "name PaddleOCR, ignore_space no, width none, max_text_length 25" in text


def test_eval_of_one_set_says_it_once() -> None:
    one = EVAL | {"per_set": {"street": EVAL["per_set"]["street"]}}  # type: ignore[index]
    assert "street" not in shown(eval_table(one))


def test_eval_takes_nested_figures() -> None:
    nested = EVAL | {
        "metrics": {"accuracy": 0.5, "loose": {"accuracy": 0.75}},
        "per_set": {
            "a": {"n": 1, "metrics": {"accuracy": 0.25, "loose": {"accuracy": 1.0}}},
            "b": {"n": 2, "metrics": {"accuracy": 0.125, "loose": {"accuracy": 0.5}}},
        },
    }
    text = shown(eval_table(nested))
    assert "loose accuracy" in text
    assert line_of(text, "all").split()[-2:] == ["0.5000", "0.7500"]
    assert line_of(text, "0.2500").split() == ["a", "1", "0.2500", "1.0000"]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_what_was_skipped_is_counted_and_named(count: int) -> None:
    skipped = [{"where": f"labels.txt:{line}", "reason": "no [tab]"} for line in range(count)]
    text = shown(eval_table(EVAL | {"skipped": skipped}))
    assert f"{count} skipped:" in text
    assert text.count("no [tab]") == min(count, 3)  # brackets are text, not markup
    assert ("and 2 more" in text) == (count == 5)


def test_nothing_skipped_is_not_mentioned() -> None:
    assert "skipped" not in shown(eval_table(EVAL))


def test_bench_shows_figures_and_conditions() -> None:
    rows = [
        bench_row("float", "openvino", 10.0, 1.0),
        bench_row("int8 [small]", "openvino", 7.3, 0.73, peak_rss_mb=None, bytes=3_500_000),
    ]
    text = shown(bench_table(rows))
    assert line_of(text, "float").split() == ["float", "openvino", "10.00", "9.00-11.00", "1.00", "123", "10.86"]
    assert line_of(text, "int8").split() == ["int8", "[small]", "openvino", "7.30", "6.57-8.03", "0.73", "?", "3.50"]
    assert "2 threads, input 1x3x48x320, 30 runs in turns" in text
    assert "AMD EPYC (avx2 fma)" in text
    assert "onnxruntime 1.32.0" in text
    assert "quiet machine" not in text


@pytest.mark.parametrize(("load", "warned"), [(None, False), (0.0, False), (0.09, False), (0.5, True)])
def test_bench_warns_of_a_busy_machine(load: float | None, warned: bool) -> None:
    text = shown(bench_table([bench_row("a", "openvino", 1.0, 1.0, other_load=load)]))
    assert ("0.5 cores busy meanwhile: time again on a quiet machine" in text) is warned


@pytest.mark.parametrize("width", [160, 80, 60, 30])
def test_a_narrow_terminal_cuts_neither_names_nor_figures(width: int) -> None:
    rows = [bench_row("PP-OCRv6_small_rec", engine, 1234.56, 1.0) for engine in ("onnxruntime", "openvino")]
    text = shown(bench_table(rows), width)
    for word in ("onnxruntime", "openvino"):
        assert len(re.findall(rf"\b{word}\b", text)) >= 1
    for word in ("PP-OCRv6_small_rec", "1234.56", "1111.10-1358.02", "10.86"):
        assert text.count(word) == 2
    assert max(map(len, text.splitlines())) <= width


def test_headings_break_before_the_table_is_given_up() -> None:
    rows = [bench_row("PP-OCRv6_small_rec", "onnxruntime", 1234.56, 1.0)]
    line = line_of(shown(bench_table(rows), 80), "PP-OCRv6_small_rec")
    assert line.split() == ["PP-OCRv6_small_rec", "onnxruntime", "1234.56", "1111.10-1358.02", "1.00", "123", "10.86"]
    narrow = shown(bench_table(rows), 60)
    assert line_of(narrow, "PP-OCRv6_small_rec") == "PP-OCRv6_small_rec"
    assert "engine onnxruntime, median ms 1234.56" in narrow


def _loose(*sets: str) -> dict[str, Any]:
    figures = {"accuracy": 0.5, "norm_edit_distance": 0.9, "loose": {"accuracy": 0.75, "norm_edit_distance": 0.95}}
    return EVAL | {"metrics": figures, "per_set": {name: {"n": 300} | figures for name in sets}}


def test_sets_keep_their_names_at_80_columns() -> None:
    text = shown(eval_table(_loose("ic15", "td500_zh", "cn_invoice")), 80)
    for name in ("ic15", "td500_zh", "cn_invoice"):
        assert line_of(text, name).split() == [name, "300", "0.5000", "0.9000", "0.7500", "0.9500"]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["a folder of scanned receipts, march", "[bold]", "发票" * 12])
def test_a_set_of_a_long_or_odd_name_stands_above_its_figures(name: str) -> None:
    text = shown(eval_table(_loose("a", name)), 60)
    assert name in text.splitlines()
    assert text.count("norm_edit_distance 0.9000") == 3  # of all, and of each set


def test_a_name_wider_than_the_screen_is_whole_when_nothing_crops_it() -> None:
    console = Console(file=io.StringIO(), width=40, color_system=None)
    console.print(eval_table(_loose("a", "x" * 100)), crop=False)
    assert isinstance(console.file, io.StringIO)
    assert "x" * 100 in console.file.getvalue().splitlines()


def test_the_official_models_fit_80_columns() -> None:
    rows = [model.to_json() | {"cached": True} for model in MODELS.values()]
    text = shown(models_table(rows), 80)
    for name, model in MODELS.items():
        assert line_of(text, name).split() == [name, model.task, "Apache-2.0", model.wheel, "yes"]
    stacked = shown(models_table(rows), 40).splitlines()
    assert set(MODELS) <= set(stacked)


def test_bench_of_nothing_is_an_empty_table() -> None:
    assert "median ms" in shown(bench_table([]))


def test_models() -> None:
    row = {
        "name": "PP-OCRv4_mobile_rec",
        "task": "rec",
        "licence": "Apache-2.0",
        "wheel": "rapidocr==1",
        "cached": True,
    }
    text = shown(models_table([row, row | {"name": "PP-OCRv4_mobile_det", "task": "det", "cached": False}]))
    assert line_of(text, "_rec").split() == ["PP-OCRv4_mobile_rec", "rec", "Apache-2.0", "rapidocr==1", "yes"]
    assert line_of(text, "_det").split() == ["PP-OCRv4_mobile_det", "det", "Apache-2.0", "rapidocr==1"]


def test_inspect_shows_every_fact_on_its_line() -> None:
    facts = {
        "name": "PP-OCRv4_mobile_rec",
        "opset": 12,
        "inputs": [{"name": "x", "shape": [None, 3, 48, "W"]}],
        "operators": {"Conv": 38, "Add": 20},
        "parameters": 2_690_000,
        "macs": None,
        "gmac": 0.70123,
        "ir_version": 7,
    }
    text = shown(inspect_table(facts))
    assert "PP-OCRv4_mobile_rec" in text.splitlines()[0]
    assert line_of(text, "inputs").split() == ["inputs", "x", "?x3x48x?"]
    assert line_of(text, "operators").split(maxsplit=1)[1].strip() == "Conv 38, Add 20"
    assert line_of(text, "parameters").split()[-1] == "2,690,000"
    assert line_of(text, "macs").split()[-1] == "none"
    assert line_of(text, "gmac").split()[-1] == "0.7012"
    assert "ir version" in text


RESULT: dict[str, Any] = {
    "model": {"name": "PP-OCRv4_mobile_rec", "task": "rec"},
    "target": "openvino",
    "data": {"n_train": 3801, "n_eval": 1601, "judged_by": "labels of --eval"},
    "metrics": {
        "float": {"openvino": {"accuracy": 0.6002, "norm_edit_distance": 0.9012, "n": 1601}},
        "int8": {"openvino": {"accuracy": 0.5971, "norm_edit_distance": 0.9015, "n": 1601}},
    },
    "drop": {"openvino": {"metric": "accuracy", "points": 0.31, "low": -0.25, "high": 0.87, "n": 1601}},
    "latency": [
        bench_row("float", "onnxruntime", 14.08, 1.0),
        bench_row("float", "openvino", 10.41, 0.74, ratio_on_engine=1.0),
        bench_row("int8", "onnxruntime", 15.5, 1.1),
        bench_row("int8", "openvino", 8.0, 0.57, ratio_on_engine=0.78),
    ],
    "size": {"float": 10_857_958, "int8": 3_500_000, "ratio": 0.3223},
    "placement": {
        "quantized": [{"node": f"conv{i}", "reason": "pointwise"} for i in range(26)],
        "float": [
            {"node": "dw0", "op": "Conv", "reason": "depthwise"},
            {"node": "dw1", "op": "Conv", "reason": "depthwise"},
            {"node": "mm", "op": "MatMul", "reason": "attention"},
        ],
    },
    "verify": [{"kind": "frames", "value": 0.9968, "required": 0.99, "passed": True, "n": 812}],
    "stages": [
        {"name": "calibrate", "seconds": 20.0, "peak_rss_mb": 900.0},
        {"name": "train", "seconds": 300.5, "peak_rss_mb": 3123.0},
    ],
    "skipped": [],
}


@pytest.fixture
def result() -> dict[str, Any]:
    return copy.deepcopy(RESULT)


def test_result_sets_float_beside_int8(result: dict[str, Any]) -> None:
    text = shown(result_table(result))
    assert re.search(r"PP-OCRv4_mobile_rec for openvino", text)
    # A loss of 0.31 with an interval of -0.25 to 0.87 is a change of -0.31, between -0.87 and +0.25.
    assert re.search(
        r"accuracy, openvino +0\.6002 +0\.5971 +-0\.31 points \(-0\.87 to \+0\.25, n=1601\)", line_of(text, "accuracy")
    )
    assert re.search(r"0\.9012 +0\.9015 +\+0\.03 points$", line_of(text, "norm_edit_distance").rstrip())
    assert line_of(text, "size, MB").split() == ["size,", "MB", "10.86", "3.50", "x", "0.32"]


def test_result_takes_latency_ratios_from_runs_in_turns(result: dict[str, Any]) -> None:
    text = shown(result_table(result))
    assert line_of(text, "ms, openvino").split() == ["ms,", "openvino", "10.41", "8.00", "x", "0.78"]  # not 0.77
    assert line_of(text, "ms, onnxruntime").split() == ["ms,", "onnxruntime", "14.08", "15.50", "x", "1.10"]
    assert "30 runs in turns" in text


def test_result_tells_another_number_of_threads_apart(result: dict[str, Any]) -> None:
    result["latency"] += [
        row | {"threads": 1, "median_ms": 20.0 if row["label"] == "float" else 15.0, "ratio_on_engine": ratio}
        for row, ratio in zip(result["latency"], (1.0, 1.0, 0.75, 0.76), strict=True)
    ]
    text = shown(result_table(result))
    assert line_of(text, "ms, openvino, 1 thread").split()[-4:] == ["20.00", "15.00", "x", "0.76"]
    assert line_of(text, "ms, openvino ").split()[-4:] == ["10.41", "8.00", "x", "0.78"]
    assert "1.00" not in text  # no float row is held against one of other threads


def test_result_says_what_stayed_float_and_why(result: dict[str, Any]) -> None:
    text = shown(result_table(result))
    assert "26 operators in int8, 3 kept float" in text
    assert line_of(text, "depthwise (Conv 2)").split()[-1] == "2"
    assert line_of(text, "attention (MatMul 1)").split()[-1] == "1"
    assert text.index("depthwise") < text.index("attention")  # the most frequent first


def test_result_manages_without_operator_kinds(result: dict[str, Any]) -> None:
    for item in result["placement"]["float"]:
        del item["op"]
    assert line_of(shown(result_table(result)), "depthwise").split() == ["depthwise", "2"]


def test_result_says_who_judged_and_what_it_took(result: dict[str, Any]) -> None:
    text = shown(result_table(result))
    assert "judged by labels of --eval on 1601 images; learned from 3801" in text
    assert "frames: exported model agrees with the trained one, 0.9968 of 812 (at least 0.99 asked)" in text
    assert "320 s (calibrate 20, train 300), at most 3123 MiB" in text  # 320.5 rounds to even


def test_result_does_not_hide_a_mismatch(result: dict[str, Any]) -> None:
    result["verify"][0] |= {"passed": False, "value": 0.4}
    assert "DOES NOT AGREE" in shown(result_table(result))


def test_result_without_metrics_or_drop_still_shows_the_rest(result: dict[str, Any]) -> None:
    result["metrics"] = {"float": {"openvino": {"agreement": 1.0}}, "int8": {}}
    result["drop"] = {}
    text = shown(result_table(result))
    assert "agreement" not in text  # nothing to compare it with
    assert "size, MB" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_figures_survive_a_narrow_terminal(result: dict[str, Any], width: int) -> None:
    text = shown(result_table(result), width)
    squeezed = re.sub(r"\s+", "", text)
    assert all(figure in squeezed for figure in ("0.6002", "0.5971", "-0.31", "0.78", "10.86"))
    assert max(map(len, text.splitlines())) <= width
