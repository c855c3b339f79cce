"""The README's table: its figures are those of the files, and what is no result is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import table

LAST = "download or command"


def result(name: str = "PP-OCRv4_mobile_rec", **more: Any) -> dict[str, Any]:
    timed = {"cpu": "EPYC", "flags": ["avx2"], "threads": 2, "versions": {"openvino": "2026.4"}, "other_load": 0.02}
    return {
        "model": {"name": name},
        "target": "openvino",
        "metrics": {"float": {"openvino": {"accuracy": 0.60025}}, "int8": {"openvino": {"accuracy": 0.59412}}},
        "drop": {"openvino": {"metric": "accuracy", "points": 0.613, "low": -0.1, "high": 1.25, "n": 1601}},
        "latency": [
            {"label": "float", "engine": "openvino", "ratio_on_engine": 1.0} | timed,
            {"label": "int8", "engine": "onnxruntime", "ratio_on_engine": 1.4} | timed,
            {"label": "int8", "engine": "openvino", "ratio_on_engine": 0.754} | timed,
        ],
        "size": {"ratio": 0.331},
        "stages": [{"name": "a", "seconds": 60.0}, {"name": "b", "seconds": 90.0}],
        "delivered": "int8",
    } | more


def write(folder: Path, content: object) -> Path:
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_row_holds_the_files_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(write(tmp_path / "a", result()))]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == [
        "PP-OCRv4_mobile_rec",
        "openvino",
        "accuracy",
        "0.6002",
        "0.5941",
        "-0.61 (-1.25 to +0.10)",
        "0.75",
        "0.33",
        "2.5",
        "int8",
    ]
    assert lines[-1] == "EPYC (avx2), 2 threads; openvino 2026.4"


def test_rows_stand_in_the_order_of_the_official_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["mine", "PP-OCRv6_tiny_rec", "PP-OCRv3_mobile_rec"]
    folders = [str(write(tmp_path / name, result(name))) for name in names]
    assert table.main([*folders, "--json"]) == 0
    assert [row["model"] for row in json.loads(capsys.readouterr().out)] == names[::-1]


def test_a_time_from_a_busy_machine_is_marked_and_a_stand_in_named(tmp_path: Path) -> None:
    busy = result(engine="openvino", target="paddle")
    busy["latency"][2]["other_load"] = 0.5
    found = table.read_results([write(tmp_path / "a", busy)])
    text = table.markdown([table._row(item) for item in found], found)
    assert "| ~0.75 |" in text
    assert "| paddle (openvino) |" in text


@pytest.mark.parametrize("content", [[], {"model": {}}, "text", result(drop={})])
def test_what_is_no_result_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object
) -> None:
    assert table.main([str(write(tmp_path / "a", content))]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "result.json" in said.err


def test_a_folder_without_a_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(tmp_path / "none")]) == 2
    assert "none/result.json" in capsys.readouterr().err


def test_the_columns_of_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop = {"metric": "accuracy", "points": 0.3, "low": -0.1, "high": 0.7, "n": 1000}
    made = result(command="ocrslim compress PP-OCRv4_mobile_rec --data '/home/me/my train.txt' --out ./run")
    made["budget"] = {
        "drop": drop,
        "rungs": [{"rung": "c", "drop": None}, {"rung": "2 sites float: a, b", "drop": drop}],
    }
    made["latency"] = [row | {"median_ms": 4.25} for row in made["latency"]]
    assert table.main([str(write(tmp_path / "a", made)), "--example", "--json"]) == 0
    before, after, *others = json.loads(capsys.readouterr().out)
    assert list(before) == ["model", "engine", "strategy", "metric", "value", "latency, ms", "config", LAST]
    name = ["PP-OCRv4_mobile_rec", "openvino"]
    assert list(before.values()) == [
        *name,
        *("float", "accuracy", "0.6002", "4.2", "–", "`ocrslim models pull PP-OCRv4_mobile_rec`"),
    ]
    assert list(after.values())[:6] == [*name, "int8, 2 sites float", "accuracy", "0.5941", "4.2"]
    config = "ppocrv4_rec_qat_dist.yaml"
    assert after["config"] == f"[{config}](configs/{config})"
    assert after[LAST] == "`ocrslim compress PP-OCRv4_mobile_rec --data 'my train.txt' --out run`"
    assert len(others) == 2 * len(table.MODELS) - 1  # what was not measured: a dash, and why
    assert {row["value"] for row in others} == {"–"}
    assert all("not measured" in row[LAST] for row in others)
    assert name not in [[row["model"], row["engine"]] for row in others]


def test_every_official_model_has_a_file_in_the_form_of_the_example() -> None:
    """Of small and tiny there is one for both; a model of somebody's own has none."""
    configs = {table._config(name) for name in table.MODELS}
    assert "–" not in configs
    assert len(configs) == 8
    assert table._config("mine") == "–"


def test_what_was_not_timed_or_recorded_is_said_so(tmp_path: Path) -> None:
    found = table.read_results([write(tmp_path / "a", result("mine"))])
    found[0]["latency"] = []
    rows = table.example_rows(found)[:2]
    assert [row["latency, ms"] for row in rows] == ["–", "–"]
    assert [row[LAST] for row in rows] == ["–", "not recorded"]
    assert rows[1]["strategy"] == "int8"
    assert "| mine | openvino | int8 | accuracy | 0.5941 | – | – | not recorded |" in table.markdown(rows, found)


def test_speed_is_against_the_original_in_onnxruntime_and_in_the_own_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = result()
    first = made["latency"][0] | {"engine": "onnxruntime"}
    rewritten = made["latency"][2] | {"label": "rewritten", "ratio": 0.9, "ratio_on_engine": 0.8, "other_load": 0.5}
    made["latency"] = [first, *made["latency"][:2], made["latency"][2] | {"ratio": 0.4}, rewritten]
    folders = [write(tmp_path / "a", made), write(tmp_path / "b", result("PP-OCRv6_tiny_rec"))]
    assert table.main([*map(str, folders), "--speed", "--json"]) == 0
    rows = [list(row.values()) for row in json.loads(capsys.readouterr().out)]
    assert rows[1] == ["PP-OCRv6_tiny_rec", "openvino", "-0.61", "–", "1.33", "–"]  # timed on one engine alone
    assert rows[0] == ["PP-OCRv4_mobile_rec", "openvino", "-0.61", "2.50", "1.33", "~1.25"]


def test_what_the_clock_made_of_the_placement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, usual = result(), result("PP-OCRv6_tiny_rec")
    asked["placement"] = {
        **{"quantized": [{"node": "a"}, {"node": "b"}], "float": []},
        "measured": {"fast": ["b"], "slow": ["c", "d"], "ratio": 0.874, "used": True, "trials": []},
    }
    usual["placement"] = {"quantized": [{"node": "a"}], "float": []}
    folders = [write(tmp_path / "a", asked), write(tmp_path / "b", usual)]
    assert table.main([*map(str, folders), "--placement", "--json"]) == 0
    rows = [list(row.values()) for row in json.loads(capsys.readouterr().out)]
    assert rows[0] == ["PP-OCRv4_mobile_rec", "openvino", "2", "1", "2", "0.87", "yes"]
    assert rows[1] == ["PP-OCRv6_tiny_rec", "openvino", "1", "–", "–", "–", "–"]
