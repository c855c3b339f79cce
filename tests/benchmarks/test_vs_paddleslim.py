"""The command: mistakes in one line, and what is left of the comparison without the other side."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import vs_paddleslim
from rich.console import Console
from stopwatch import Cost, Timing
from versus import OURS, THEIRS, Row
from vs_paddleslim import main

from ocrslim.report.run_log import RunLog


def run(lines: Path, work: Path, *more: str) -> int:
    labels = ["--train", "rec/labels/train.txt", "--eval", "rec/labels/val.txt"]
    return main(["--data", str(lines), "--work", str(work), *labels, *more])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--steps", "0"], "--steps 0: at least 1 is needed"),
        (["--limit", "0"], "--limit 0: at least 1 is needed"),
        (["--det-size", "100"], "--det-size 100: a multiple of 32 is needed"),
        (["--train", "no/such.txt"], "no/such.txt: no such file; --data, --train and --eval name the label files"),
    ],
)
def test_a_mistake_is_one_line(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert run(lines, tmp_path / "work", *more) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.startswith("vs_paddleslim.py: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_without_the_environment_one_line_says_what_is_left(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=500)
    log = RunLog(tmp_path, console)
    options = argparse.Namespace(work=tmp_path, paddleslim_python="/no/such/python")
    python, notes = vs_paddleslim._environment(options, log)
    log.close()
    assert python is None
    (note,) = notes
    assert "/no/such/python is none" in note
    assert note.endswith("only ocrslim is shown, scored in onnxruntime")
    assert "\n" not in note


class FakeDuel:
    """Rows made by hand, in place of minutes."""

    def __init__(self, name: str, terms: object, python: Path | None, log: RunLog) -> None:
        self._name = name

    def rows(self) -> Iterator[Row]:
        timing = Timing(Cost(1.0, 1.0), Cost(2.0, 2.0), Cost(3.0, 4.0), Cost(5.0, 5.0), 6, 7.0)
        for by in (OURS, THEIRS):
            yield Row(self._name, by, 2, timing, "accuracy", 9, 0.5, 0.25, 25.0, 20.0, 30.0, "", 1.25)


@pytest.mark.parametrize("as_json", [False, True])
def test_table_and_notes_are_shown_and_stored(
    lines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_json: bool,
) -> None:
    monkeypatch.setattr(vs_paddleslim, "Duel", FakeDuel)
    monkeypatch.setattr(vs_paddleslim, "make_environment", lambda folder, python: folder / "bin/python")
    assert run(lines, tmp_path, *(["--json"] if as_json else [])) == 0
    out = capsys.readouterr().out
    stored = json.loads((tmp_path / "vs_paddleslim.json").read_text(encoding="utf-8"))
    assert [row["by"] for row in stored["rows"]] == [OURS, THEIRS] * 2
    assert stored["rows"][0]["per_image"] == {"wall": 1.5, "cpu": 2.0}
    assert any("1.0 times less processor time" in note and "less than the 4" in note for note in stored["notes"])
    assert any("PaddleSlim 2.6.0 with PACT, paddlepaddle 2.6.2" in note for note in stored["notes"])
    page = (tmp_path / "vs_paddleslim.md").read_text(encoding="utf-8")
    assert page.count("PP-OCRv4_mobile_det | ocrslim") == 1
    if as_json:
        assert json.loads(out) == stored
    else:
        assert "PP-OCRv4_mobile_rec, PaddleSlim: other programs kept 1.2 cores busy" in out


def test_an_interrupt_says_how_to_go_on(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vs_paddleslim, "make_environment", interrupt)
    assert run(lines, tmp_path) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
