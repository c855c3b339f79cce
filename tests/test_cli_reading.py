"""The command line's two commands that read pages: predict, and eval --end-to-end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocrslim.ocr.fonts import Font

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pair(zoo: Callable[[str], Path]) -> list[str]:
    det, rec = zoo("PP-OCRv6_tiny_det").parent, zoo("PP-OCRv6_tiny_rec").parent
    return ["--det", str(det), "--rec", str(rec), "--engine", "onnxruntime", "--threads", "1"]


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    for name, text in (("a.png", "Invoice 2024"), ("c.png", "Total 128.50")):
        ink = Font("uni").draw(text, 32, margin=30)
        cv2.imwrite(str(folder / name), np.repeat(255 - ink[:, :, None], 3, axis=2))
    (folder / "b.png").write_bytes(b"no image")
    return folder


def test_texts_on_stdout_and_what_was_skipped_on_stderr(run: Run, pair: list[str], pages: Path) -> None:
    code, out, err = run("predict", pages, *pair)
    assert code == 0
    assert out == f"==> {pages}/a.png <==\nInvoice 2024\n\n==> {pages}/c.png <==\nTotal 128.50\n\n"
    first, second = err.splitlines()
    assert first.startswith(f"ocrslim: skipped {pages}/b.png: no image that can be decoded")
    assert second.startswith("ocrslim: 2 of 3 pages read, 1 skipped, 2 lines of text, ")


def test_json_is_one_object_and_nothing_else(run: Run, pair: list[str], pages: Path, tmp_path: Path) -> None:
    code, out, _ = run("predict", pages / "a.png", *pair, "--json", "--drop-score", "0.3", "--out", tmp_path / "out")
    assert code == 0
    result = json.loads(out)
    assert result["settings"]["drop_score"] == 0.3
    assert [page["text"] for page in result["pages"]] == ["Invoice 2024"]
    assert result == json.loads((tmp_path / "out" / "predict.json").read_text(encoding="utf-8"))
    assert (tmp_path / "out" / "a.jpg").is_file()


def test_mistakes_are_one_line(run: Run, pair: list[str], pages: Path) -> None:
    for arguments, said in (
        ((pages / "b.png", *pair), "none of 1 pages can be read"),
        ((pages / "none.png", *pair), "none.png: no such image, folder or PDF"),
        ((pages, *pair, "--against", "float"), "name the others: --against DET REC"),
        ((pages, *pair, "--drop-score", "7"), "drop_score 7.0"),
        ((pages, *pair, "--det", "nowhere"), "nowhere: no such file, folder or model"),
        ((pages, *pair, "--out", pages), "is a folder that is read; name another one, such as"),
    ):
        code, out, err = run("predict", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("ocrslim: ")
        assert err.count("\n") == 1
        assert said in err


def test_a_pair_compared_with_another(run: Run, pair: list[str], pages: Path) -> None:
    code, out, err = run("predict", pages / "a.png", *pair, "--against", pair[1], pair[3])
    assert code == 0
    assert out == " Invoice 2024\n"
    assert "1 texts equal, 0 differ; 1-NED 1.0000" in err.splitlines()[-1]


def test_end_to_end_scores_a_pair(run: Run, pair: list[str], pages: Path) -> None:
    whole = [[20, 20], [290, 20], [290, 70], [20, 70]]
    lines = [
        f"{name}\t{json.dumps([{'points': whole, 'transcription': text}])}\n"
        for name, text in (("a.png", "INVOICE 2024"), ("b.png", "x"), ("c.png", "Total 128.50"))
    ]
    (pages / "labels.txt").write_text("".join(lines), encoding="utf-8")
    code, out, _ = run("eval", "--end-to-end", *pair, "--data", pages / "labels.txt", "--loose", "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["task"], result["n"], len(result["skipped"])) == ("end-to-end", 2, 1)
    assert result["metrics"] == {
        **{"hmean": 0.5, "precision": 0.5, "recall": 0.5},
        "loose": {"hmean": 1.0, "precision": 1.0, "recall": 1.0},
    }
    code, out, _ = run("eval", "--end-to-end", *pair, "--data", pages / "labels.txt", "--loose")
    assert code == 0
    assert "end-to-end on onnxruntime" in out
    assert "0.5000" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--end-to-end", "--task", "det"), "leave out --task"),
        (("--end-to-end", "--rec-width", "fixed"), "leave out --rec-width"),
        (("--end-to-end", "--config_path", "x.yml"), "leave out --config-path"),
        (("--end-to-end", "--drop-score", "1.5"), "drop_score 1.5"),
        (("m", "--drop-score", "0.3"), "eval --drop-score: for --end-to-end"),
    ],
)
def test_options_that_do_not_act_are_refused(
    run: Run, pair: list[str], pages: Path, given: tuple[str, ...], said: str
) -> None:
    (pages / "labels.txt").write_text("a.png\t[]\n", encoding="utf-8")
    code, out, err = run("eval", *given, *(pair if given[0] != "m" else ()), "--data", pages / "labels.txt")
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("left_out", ["--det", "--rec", "--data"])
def test_end_to_end_needs_both_models_and_labels(run: Run, left_out: str) -> None:
    given = {"--det": "a", "--rec": "b", "--data": "c"}
    del given[left_out]
    code, out, err = run("eval", "--end-to-end", *(word for pair in given.items() for word in pair))
    assert (code, out) == (2, "")
    assert "name --det MODEL, --rec MODEL and --data LABELS" in err
