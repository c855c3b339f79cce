"""The benchmark of a million labels, with a few thousand; its figures are bounded where the machine is known."""

from __future__ import annotations

from pathlib import Path

import big_data
import pytest

from ocrslim.ocr import labels


@pytest.mark.parametrize(("kind", "task"), [("file", "rec"), ("file", "det"), ("lmdb", "rec")])
def test_what_is_generated_is_opened_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: str
) -> None:
    monkeypatch.setattr(labels, "MOST_OBJECTS", 100)
    monkeypatch.setattr(big_data, "IMAGES", 10)
    path = big_data._lmdb(tmp_path, 3000) if kind == "lmdb" else big_data._file(tmp_path, task, 3000)
    figures = big_data.measure(task, path)
    assert figures["train"] + figures["held"] == 3000
    assert figures["skipped"] == 0
    assert figures["batch"] == (2 if task == "det" else 8)
    assert figures["seconds"] >= figures["seconds_to_open"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "task"), [("file", "rec"), ("file", "det"), ("lmdb", "rec")])
def test_a_million_labels_begin_in_20_seconds_and_a_gigabyte(tmp_path: Path, kind: str, task: str) -> None:
    path = big_data._lmdb(tmp_path, 1_000_000) if kind == "lmdb" else big_data._file(tmp_path, task, 1_000_000)
    figures = big_data.measure(task, path)
    assert figures["cpu_seconds"] < 20
    assert figures["memory_mb"] < 1000
    assert figures["train"] + figures["held"] == 1_000_000
