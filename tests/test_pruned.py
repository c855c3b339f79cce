"""``ocrslim prune``: settings, the table, and a whole run on a real model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from rich.console import Console

from ocrslim import pruned
from ocrslim.cli import main
from ocrslim.engines.session import ENGINES, open_session
from ocrslim.errors import InputError, OcrslimError
from ocrslim.export.bundle import open_deployable
from ocrslim.lock import alone_in
from ocrslim.pruned import PruneSettings, prune_and_distil
from ocrslim.report.pruned import pruning_table
from ocrslim.report.result import sha256_of
from ocrslim.report.run_folder import read_run
from ocrslim.slimming.training import data as training_data
from ocrslim.slimming.training.compute import Compute
from ocrslim.slimming.training.trainer import Trainer


@pytest.mark.parametrize(
    ("speedup", "ratio", "words"),
    [
        (None, None, "either --speedup"),
        (1.3, 0.3, "either --speedup"),
        (1.0, None, "--speedup 1 is no gain"),
        (None, 1.0, "--ratio 1 is the share to remove"),
        (None, 0.0, "--ratio 0 is the share to remove"),
    ],
)
def test_one_goal_and_in_its_range(speedup: float | None, ratio: float | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        PruneSettings("openvino", tmp_path, speedup=speedup, ratio=ratio).goal()


def test_goals_are_costs(tmp_path: Path) -> None:
    assert PruneSettings("openvino", tmp_path, speedup=1.25).goal().ratio == pytest.approx(0.8)
    assert PruneSettings("openvino", tmp_path, ratio=0.3, align=16).goal().ratio == pytest.approx(0.7)
    assert PruneSettings("openvino", tmp_path, ratio=0.3, align=16).goal().align == 16


def test_several_processes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prune: in one process"):
        PruneSettings("openvino", tmp_path, ratio=0.3, compute=Compute(processes=2)).goal()


def test_what_cannot_train_is_refused_before_any_work(
    zoo: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = ["prune", str(zoo("PP-OCRv6_tiny_rec")), "--target", "openvino", "--ratio", "0.1", "--out", str(out)]
    assert main([*given, "--device", "cpu", "--amp", "fp16"]) == 2
    assert "--amp fp16: on a GPU only" in capsys.readouterr().err
    assert not out.exists()


def test_a_short_run_leaves_what_a_report_and_a_card_read(
    zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_data, "RENDERED", {"rec": 24, "det": 4})
    monkeypatch.setattr(pruned, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr("ocrslim.slimming.pruning.cost.SECONDS", 0.0)
    settings = PruneSettings("openvino", tmp_path, ratio=0.05, steps=1, threads=1, compute=Compute(accumulate=2))
    result = prune_and_distil(zoo("PP-OCRv6_tiny_rec"), settings)
    assert read_run(tmp_path).result["verdict"] == result["verdict"]
    assert "pruned, still float: " in result["verdict"]
    pruning = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["pruning"]
    assert pruning == result["pruning"]  # JSON has no keys that are numbers
    assert {row["group"] for row in pruning["sensitivity"]} <= {row["name"] for row in pruning["groups"]}
    assert all(row["divergence"] for row in pruning["sensitivity"] if row["width"] > 3)
    assert pruning["uncut"] == 1.0  # by counting
    assert "Pruned, still float: " in (tmp_path / "report.html").read_text(encoding="utf-8")
    card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"SHA-256 `{sha256_of(tmp_path / 'model.onnx')}`" in card
    assert "--ratio 0.05 --align 8 --importance taylor" in card
    assert "--accumulate 2" in card
    assert "- `INFERENCE_NUM_THREADS`: `1`" in card
    assert open_deployable(tmp_path).title == "PP-OCRv6_tiny_rec, float, pruned"


def test_where_no_channel_can_go_the_run_ends_well(
    zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_data, "RENDERED", {"rec": 24, "det": 4})
    monkeypatch.setattr(pruned, "MIN_BENCH_SECONDS", 0.1)
    settings = PruneSettings("openvino", tmp_path, ratio=0.05, align=1 << 16, threads=1)
    result = prune_and_distil(zoo("PP-OCRv6_tiny_rec"), settings)
    assert not result["pruning"]["reached"]
    assert all(row["before"] == row["after"] for row in result["pruning"]["groups"])
    assert (result["training"]["steps"], result["taught"]) == (0, None)
    assert result["drop"]["openvino"]["points"] == 0.0


def test_a_recogniser_without_a_dictionary_is_refused_before_any_work(
    zoo: Callable[[str], Path], tmp_path: Path
) -> None:
    model = onnx.load(zoo("PP-OCRv6_tiny_rec"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "alone.onnx")
    with pytest.raises(InputError, match="no dictionary; name it with --dict"):
        prune_and_distil(tmp_path / "alone.onnx", PruneSettings("openvino", tmp_path / "out", ratio=0.1))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_ends_in_the_same_bytes(
    zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_data, "RENDERED", {"rec": 24, "det": 4})
    monkeypatch.setattr(pruned, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr("ocrslim.slimming.pruning.cost.SECONDS", 0.0)
    model, whole, stopped = zoo("PP-OCRv6_tiny_rec"), tmp_path / "whole", tmp_path / "stopped"
    settings = PruneSettings("openvino", whole, ratio=0.05, steps=4, threads=1)
    prune_and_distil(model, settings)
    one_step, steps = Trainer._one_step, 0

    def step(self: Trainer, stream: Any) -> dict[str, float]:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        return one_step(self, stream)

    monkeypatch.setattr(Trainer, "_one_step", step)
    with pytest.raises(KeyboardInterrupt):
        prune_and_distil(model, replace(settings, out=stopped))
    assert any((stopped / "checkpoints").iterdir())
    assert not (stopped / "model.onnx").exists()
    with pytest.raises(OcrslimError, match=r"ratio was 0.05, is 0.1"):  # another goal is another run
        prune_and_distil(model, replace(settings, out=stopped, ratio=0.1))
    steps = 4
    prune_and_distil(model, replace(settings, out=stopped))
    assert steps == 6  # two were done before
    assert (stopped / "model.onnx").read_bytes() == (whole / "model.onnx").read_bytes()
    assert not (stopped / "checkpoints").exists()


RESULT: dict[str, Any] = {
    "model": {"name": "net"},
    "pruning": {
        "reached": False,
        "untrained": {"metric": "hmean", "points": 4.2, "low": 3.0, "high": 5.0},
        "groups": [
            {"name": "conv[1]", "before": 32, "after": 24, "reason": "the goal was reached"},
            {"name": "head", "before": 1, "after": 1, "reason": "the model's answer"},
        ],
    },
    "latency": [
        {"label": "float", "engine": "openvino", "ratio_on_engine": 1.0},
        {"label": "pruned", "engine": "openvino", "ratio_on_engine": 0.774},
    ],
    "size": {"float": 100, "pruned": 81},
    "training": {"best_step": 150},
    "engine": "openvino",
    "drop": {"openvino": {"metric": "hmean", "points": 0.31, "low": -0.2, "high": 0.8}},
}


def test_the_table_says_what_was_cut_gained_and_lost() -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed with the process
    console.print(pruning_table(RESULT))
    text = console.export_text()
    for words in ("conv[1]", "24", "0.77 times the time of float on openvino", "0.81 times the size"):
        assert words in text
    assert "before training: 4.20 points of hmean lost (+3.00 to +5.00)" in text
    assert "after 150 steps: 0.31 points" in text
    assert "the goal was not reached" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--speedup", "0.9"], "--speedup 0.9 is no gain; give a number above 1"),
        (["--ratio", "2"], "--ratio 2 is the share to remove"),
    ],
)
def test_mistakes_are_told_in_one_line(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["prune", "PP-OCRv6_tiny_rec", "--target", "openvino", "--out", str(tmp_path / "out"), *options])
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(said) == 1
    assert words in said[0]
    assert not (tmp_path / "out").exists()


def test_a_second_pruning_in_the_folder_is_told_of_the_first(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    zoo("PP-OCRv6_tiny_rec")
    settings = PruneSettings("openvino", tmp_path, ratio=0.1)
    with alone_in(tmp_path), pytest.raises(InputError, match=rf"process {os.getpid()} on .*wait for it"):
        prune_and_distil("PP-OCRv6_tiny_rec", settings)


def test_a_goal_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prune", "PP-OCRv6_tiny_rec", "--target", "openvino", "--out", "x"])
    assert "--speedup --ratio" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "goal"),
    [
        ("PP-OCRv6_tiny_rec", "rec", {"ratio": 0.1}),
        ("PP-OCRv4_mobile_det", "det", {"ratio": 0.1}),
        ("PP-OCRv4_mobile_rec", "rec", {"speedup": 1.1}),
    ],
)
def test_a_whole_run(
    name: str,
    task: str,
    goal: dict[str, float],
    zoo: Callable[[str], Path],
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zoo(name)
    monkeypatch.setattr("ocrslim.slimming.pruning.cost.SECONDS", 2.0)  # a question
    labels = (real_data / task / "labels" / "train.txt").read_text(encoding="utf-8").splitlines()
    few = tmp_path / "few.txt"
    few.write_text("\n".join(labels[:: len(labels) // 60]) + "\n", encoding="utf-8")
    out = tmp_path / "out"
    settings = PruneSettings("openvino", out, data=few, data_dir=real_data, steps=4, threads=2, **goal)
    result = prune_and_distil(name, settings)
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["pruning"] == result["pruning"]
    assert result["size"]["pruned"] < result["size"]["float"]
    assert result["verify"][0]["passed"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"{result['pruning']['groups'][0]['name']}" in page
    assert "Pruned, still float: " in page
    assert "fewer channels" in (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert {row["engine"] for row in result["latency"]} == set(ENGINES)
    onnx.checker.check_model(out / "model.onnx", full_check=True)
    for engine in ENGINES:
        open_session(out / "model.onnx", engine, 1)
    narrower = [group for group in result["pruning"]["groups"] if group["after"] < group["before"]]
    assert narrower
    assert result["drop"]["openvino"]["points"] < 40
    assert not (out / "checkpoints").exists()
    # A second run finds the table of the first one, and cuts the same.
    again = prune_and_distil(name, settings)
    assert again["pruning"]["groups"] == result["pruning"]["groups"]
    assert again["metrics"]["pruned"] == result["metrics"]["pruned"]
