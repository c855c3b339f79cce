from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ocrslim.errors import OcrslimError
from ocrslim.slimming.training import checkpoint
from ocrslim.slimming.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "half": torch.randn(2).half(), "count": torch.tensor(7)}
    path = save_checkpoint(tmp_path, 12, tensors, {"note": "全角", "history": [1.5]})
    loaded, state = load_checkpoint(path)
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert state == {"step": 12, "note": "全角", "history": [1.5]}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100, 20):
        save_checkpoint(tmp_path, step, {"a": torch.ones(1) * step}, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000020", "step_00000100"]
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 100


def test_a_damaged_newest_falls_back_on_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {})
    newest = save_checkpoint(tmp_path, 2, {"a": torch.ones(1)}, {})
    content = (newest / "state.safetensors").read_bytes()
    (newest / "state.safetensors").write_bytes(content[: len(content) // 2])
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1
    with pytest.raises(OcrslimError, match="step_00000002"):
        load_checkpoint(newest)


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "missing") is None


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = save_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OcrslimError, match="No space left"):
        save_checkpoint(tmp_path, 2, {"a": torch.ones(1)}, {})
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_a_leftover_partial_folder_is_no_checkpoint(tmp_path: Path) -> None:
    partial = tmp_path / ".step_00000009.partial"
    partial.mkdir()
    (partial / "state.json").write_text(json.dumps({"step": 9}))
    assert latest_checkpoint(tmp_path) is None
