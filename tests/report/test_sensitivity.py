"""The files about sites say what was measured, in its order."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from ocrslim.report.sensitivity import COLUMNS, DIVERGENCE, sensitivity_csv, sensitivity_plot, write_sensitivity
from ocrslim.report.table import SITES, sensitivity_table


def site(node: str, divergence: float, gain: float = 0.001) -> dict[str, Any]:
    figures = {"sqnr_db": 31.24, "divergence_alone": divergence, "changed_alone": 0.0104, "gain_if_float": gain}
    return {"node": node, "op": "Conv", **figures, "work": 0.059}


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "model": {"name": "PP-OCRv6_tiny_rec", "task": "rec"},
        "target": "openvino",
        "sensitivity": [site("Conv.1, left", 0.009), site("Conv.6", 0.004, -0.002), site("Conv.9", 0.0)],
        "together": {"divergence": 0.0323, "changed": 0.026},
        "data": {"n_images": 12},
        "seconds": {"calibrate": 10.0, "measure": 7.3},
        "skipped": [],
    }


def shown(result: dict[str, Any], width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(sensitivity_table(result), crop=False)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_file_of_figures_reads_back(result: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(sensitivity_csv(result))))
    assert [row["node"] for row in rows] == ["Conv.1, left", "Conv.6", "Conv.9"]
    for row, told in zip(rows, result["sensitivity"], strict=True):
        assert tuple(row) == COLUMNS
        assert float(row["divergence_alone"]) == told["divergence_alone"]
        assert float(row["gain_if_float"]) == told["gain_if_float"]


@pytest.mark.parametrize("task", ["rec", "det"])
def test_the_plot_names_model_target_unit_and_sites(result: dict[str, Any], task: str) -> None:
    result["model"]["task"] = task
    chart = ElementTree.fromstring(sensitivity_plot(result))
    texts = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert "Sensitivity of PP-OCRv6_tiny_rec for openvino" in texts
    assert DIVERGENCE[task] in texts
    assert [text for text in texts if text and text.startswith("Conv.")] == ["Conv.1, left", "Conv.6", "Conv.9"]
    assert {"31.2 dB", "1.040 %", "5.9 %"} <= set(texts)


def test_a_divergence_below_zero_by_rounding_is_drawn_as_none(result: dict[str, Any]) -> None:
    result["sensitivity"][2]["divergence_alone"] = -1e-12
    assert 'width="-' not in sensitivity_plot(result)


def test_files_are_written_where_sites_were_measured_only(result: dict[str, Any], tmp_path: Path) -> None:
    write_sensitivity(tmp_path, result | {"sensitivity": []})
    assert not list(tmp_path.iterdir())
    write_sensitivity(tmp_path, result)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sensitivity.csv", "sensitivity.svg"]


def test_the_table_tells_every_figure_the_worst_first(result: dict[str, Any]) -> None:
    text = shown(result)
    assert text.index("Conv.1, left") < text.index("Conv.6") < text.index("Conv.9")
    row = next(line for line in text.splitlines() if line.strip().startswith("Conv.6")).split()
    assert row == ["Conv.6", "Conv", "31.2", "4.00e-03", "1.040", "-2.00e-03", "5.9"]
    assert "all 3 in int8: divergence 3.23e-02, 2.600 % changed" in text
    assert "12 images; calibrated in 10.0 s, measured in 7.3 s" in text


@pytest.mark.parametrize("width", [50, 80])
def test_no_name_is_cut_in_a_narrow_terminal(result: dict[str, Any], width: int) -> None:
    name = "backbone.stage1.block2.convolution.pointwise"
    result["sensitivity"][0]["node"] = name
    assert name in shown(result, width)


def test_many_sites_end_with_how_many_more_there_are(result: dict[str, Any]) -> None:
    result["sensitivity"] = [site(f"node{number}", 1.0 - number / 100) for number in range(SITES + 7)]
    text = shown(result)
    assert f"node{SITES - 1} " in text
    assert f"node{SITES} " not in text
    assert "and 7 sites more" in text
