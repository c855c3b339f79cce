"""The lines that the killed training learns from."""

from __future__ import annotations

from pathlib import Path

import kills
import pytest


def test_lines_of_another_number_are_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (3, 5):
        monkeypatch.setattr(kills, "LINES", count)
        labels = kills.data_folder(tmp_path) / "labels.txt"
        assert len(labels.read_text(encoding="utf-8").splitlines()) == count
        labels.write_text("kept", encoding="utf-8")
        assert (kills.data_folder(tmp_path) / "labels.txt").read_text(encoding="utf-8") == "kept"
