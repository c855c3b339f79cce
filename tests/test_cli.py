"""The command line: exit codes, one clear line for a mistake, JSON and nothing else on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocrslim import cli
from ocrslim.errors import EngineError
from ocrslim.graph.importers.zoo import MODELS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 160, 3), 255, np.uint8))
    (tmp_path / "labels.txt").write_text("0.png\tab\n1.png\tcd\n2.png\tef\n", encoding="utf-8")
    return tmp_path / "labels.txt"


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


def test_eval_prints_a_table(run: Run, zoo: Callable[[str], Path], lines: Path) -> None:
    code, out, _ = run("eval", zoo("PP-OCRv6_tiny_rec"), "--data", lines)
    assert code == 0
    assert "accuracy" in out


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


@pytest.mark.parametrize("arguments", [["bench", "x", "--shape", "48"], ["bench", "x", "--threads", "0"], ["compress"]])
def test_wrong_options_end_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


def test_a_failure_of_ours_is_no_mistake_of_the_user(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise EngineError("the engine\nfailed")

    monkeypatch.setattr(cli, "_run_models", fail)
    assert run("models") == (1, "", "ocrslim: the engine failed\n")


def test_an_interrupt_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run_models", interrupt)
    code, out, err = run("models")
    assert (code, out) == (130, "")
    assert err.count("\n") == 1


def test_without_torch_compress_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert_refused(run("compress", "m.onnx", "--target", "openvino", "--out", tmp_path / "o"), "ocrslim[compress]")
