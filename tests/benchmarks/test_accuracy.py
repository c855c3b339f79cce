"""The whole benchmark, reduced: one real model, rendered lines, few images; NNCF where it is installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import accuracy
import cells
import pytest
from accuracy import main
from rivals import is_installed

MODEL = "PP-OCRv6_tiny_rec"


def arguments(lines: Path, out: Path, *more: str) -> list[str]:
    few = ("--limit", "6", "--calibration", "2", "--variants", "1", "--threads", "1", "--no-timing")
    return ["--data", str(lines), "--out", str(out), "--models", MODEL, *few, *more]


def rows_of(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = json.loads((out / "accuracy.json").read_text(encoding="utf-8"))["rows"]
    return {(row["engine"], row["by"]): row for row in rows}


@pytest.fixture
def ours(tiny: Path, tmp_path: Path) -> Path:
    """Return a folder of output folders: for ONNX Runtime, the float model stands for our int8."""
    folder = tmp_path / "ours" / f"{MODEL}-onnxruntime"
    folder.mkdir(parents=True)
    shutil.copy(tiny, folder / "model.onnx")
    stages = [{"name": "train", "seconds": 90.0}, {"name": "export", "seconds": 30.0}, {"name": "bench", "seconds": 60}]
    (folder / "result.json").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    return folder.parent


def test_one_table_of_all(
    lines: Path, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(arguments(lines, out, "--ours", str(ours))) == 0
    rows = rows_of(out)
    assert {engine for engine, _ in rows} == {"onnxruntime", "openvino"}
    for engine in ("onnxruntime", "openvino"):
        assert rows[engine, "float"]["n"] == rows[engine, "onnxruntime"]["n"] == 6
        assert rows[engine, "float"]["drop"] is None
        rival = rows[engine, "onnxruntime"]
        assert rival["low"] <= rival["drop"] <= rival["high"]
        assert rival["variant"] == "percentile 99.99"
        assert 0 < rival["bytes"] < rows[engine, "float"]["bytes"]
        assert rival["time"] is rival["minutes"] is None
        assert ("score" if is_installed("nncf") else "note") in {k for k, v in rows[engine, "nncf"].items() if v}
    assert rows["onnxruntime", "ocrslim"]["drop"] == 0.0
    assert rows["openvino", "ocrslim"]["note"] == f"no {MODEL}-openvino/model.onnx"
    told = capsys.readouterr().out
    assert "onnxruntime, ocrslim against onnxruntime, 1 models: " in told
    assert (out / "accuracy.md").read_text(encoding="utf-8").count(f"| {MODEL} |") == len(rows)
    # The second run measures nothing.
    monkeypatch.setattr(cells, "evaluate", lambda *_, **__: pytest.fail("scored again"))
    monkeypatch.setattr("cells.quantize", lambda *_: pytest.fail("quantized again"))
    if is_installed("nncf"):
        assert main(arguments(lines, out, "--ours", str(ours))) == 0
        assert rows_of(out) == rows


def test_json_is_alone_on_stdout(lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--engines", "onnxruntime", "--rivals", "onnxruntime", "--json")
    assert main(arguments(lines, tmp_path, *options)) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert [row["by"] for row in data["rows"]] == ["float", "onnxruntime"]
    assert f"{MODEL} onnxruntime float: accuracy" in captured.err
    assert any("2)" in note and "first 6 images" in note for note in data["notes"])


def test_times_and_minutes_are_taken_where_it_is_quiet(
    lines: Path, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*arguments(lines, tmp_path, "--engines", "onnxruntime", "--rivals", "onnxruntime", "--ours", str(ours))]
    options.remove("--no-timing")
    monkeypatch.setattr(cells, "NOISY", 1000.0)
    assert main(options) == 0
    rows = rows_of(tmp_path)
    assert rows["onnxruntime", "float"]["time"] == 1.0
    assert rows["onnxruntime", "onnxruntime"]["time"] > 0
    assert 0 < rows["onnxruntime", "onnxruntime"]["minutes"] < 1
    assert rows["onnxruntime", "ocrslim"]["minutes"] == 2.0, "bench makes no model"
    monkeypatch.setattr(cells, "NOISY", -1.0)
    assert main([*options, "--out", str(tmp_path / "noisy")]) == 0
    assert rows_of(tmp_path / "noisy")["onnxruntime", "float"]["time"] is None
    assert not (tmp_path / "noisy" / "times").exists()


def test_an_interrupted_run_goes_on(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    options = arguments(lines, tmp_path, "--engines", "onnxruntime", "--rivals", "onnxruntime")
    whole = cells.quantize
    monkeypatch.setattr(cells, "quantize", interrupt)
    assert main(options) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert not (tmp_path / "accuracy.json").exists()
    monkeypatch.setattr(cells, "quantize", whole)
    scored: list[Path] = []
    evaluate = cells.evaluate
    monkeypatch.setattr(cells, "evaluate", lambda *args, **kw: (scored.append(tmp_path), evaluate(*args, **kw))[1])
    assert main(options) == 0
    assert len(scored) == 1, "float was scored before the interrupt"


@pytest.mark.parametrize(
    ("delivered", "beside", "variant", "file"),
    [
        ("int8", True, "", "model.onnx"),
        (None, False, "", "model.onnx"),
        ("rewritten", True, "int8.onnx; given was float, rewritten", "int8.onnx"),
        ("float", True, "int8.onnx; given was float", "int8.onnx"),
        ("float", False, "no int8: model.onnx is float", "model.onnx"),
        ("rewritten", False, "no int8: model.onnx is float, rewritten", "model.onnx"),
    ],
)
def test_a_float_model_is_not_scored_as_our_int8(
    delivered: str | None, beside: bool, variant: str, file: str, tmp_path: Path
) -> None:
    """A run gives the float model where int8 takes no less time, and keeps the int8 one beside it."""
    result = {} if delivered is None else {"delivered": delivered}
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    for name in ("model.onnx", "int8.onnx")[: 1 + beside]:
        (tmp_path / name).write_bytes(b"")
    assert accuracy._int8_of(tmp_path) == (variant, tmp_path / file)


def test_the_table_says_where_the_run_gave_float(lines: Path, ours: Path, tiny: Path, tmp_path: Path) -> None:
    folder = ours / f"{MODEL}-onnxruntime"
    shutil.copy(tiny, folder / "int8.onnx")
    (folder / "model.onnx").write_bytes(b"not scored")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    (folder / "result.json").write_text(json.dumps(result | {"delivered": "float"}), encoding="utf-8")
    out = tmp_path / "out"
    options = ("--engines", "onnxruntime", "--rivals", "--ours", str(ours))
    assert main(arguments(lines, out, *options)) == 0
    assert rows_of(out)["onnxruntime", "ocrslim"]["variant"] == "int8.onnx; given was float"
    assert "int8.onnx; given was float" in (out / "accuracy.md").read_text(encoding="utf-8")


def test_a_rival_that_fails_does_not_stop_the_others(
    lines: Path, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = accuracy.Variant("broken", {"method": "none"})
    monkeypatch.setattr(accuracy, "RIVALS", {"onnxruntime": (broken,)})
    assert main(arguments(lines, tmp_path, "--ours", str(ours), "--rivals", "onnxruntime")) == 0
    row = rows_of(tmp_path)["openvino", "onnxruntime"]
    assert row["score"] is None
    assert row["note"] == "onnxruntime (broken): KeyError: 'none'"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--compress",), "--compress: say with --ours"),
        (("--limit", "0"), "--limit 0: at least 1"),
        (("--eval", "{task}/none.txt"), "none.txt"),
        (("--profile", "nobodys"), "--profile nobodys: unknown"),
    ],
)
def test_mistakes_are_one_line(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    assert main(arguments(lines, tmp_path, "--rivals", *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("accuracy.py: ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_real_lines_and_our_own_compression(real_data: Path, tmp_path: Path) -> None:
    """What is missing in ``--ours`` is made from the real training lines and scored beside ONNX Runtime's."""
    out = tmp_path / "out"
    options = ["--data", str(real_data), "--out", str(out), "--models", MODEL, "--engines", "openvino", "--compress"]
    options += ["--ours", str(tmp_path / "ours"), "--rivals", "onnxruntime", "--limit", "100", "--no-timing"]
    assert main(options) == 0
    rows = rows_of(out)
    assert rows["openvino", "float"]["score"] > 0.3
    assert rows["openvino", "ocrslim"]["drop"] <= rows["openvino", "onnxruntime"]["drop"]
    assert (tmp_path / "ours" / f"{MODEL}-openvino" / "result.json").is_file()
