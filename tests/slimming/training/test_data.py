"""The split of the user's data, and rendered data where there are none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ocrslim.config.profile import load_profile
from ocrslim.errors import DataError
from ocrslim.slimming.training import data as module
from ocrslim.slimming.training.data import (
    calibration_batches,
    open_training_data,
    training_batches,
    validation_batches,
)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Thirty line images with labels, one of them missing."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(30):
        image = rng.integers(0, 255, (20 + index, 60 + 10 * index, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{index:02}.png"), image)
        rows.append(f"{index:02}.png\ttext{index}")
    rows.append("missing.png\tnot there")
    (tmp_path / "labels.txt").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def test_the_split_is_whole_and_without_overlap(lines: Path) -> None:
    data = open_training_data("rec", lines / "labels.txt", None, "", seed=1)
    assert len(data.train) == 27
    assert len(data.held) == 3
    assert len({*map(str, data.train), *map(str, data.held)}) == 30
    assert [sample.image for sample in data.held_samples] == list(data.held)
    assert data.labelled
    assert not data.rendered
    assert ["missing" in item.reason + item.where for item in data.skipped] == [True]


def test_the_split_depends_on_the_seed_alone(lines: Path) -> None:
    one, same, other = (open_training_data("rec", lines / "labels.txt", None, "", seed=seed).held for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_folder_without_labels_is_data_too(lines: Path) -> None:
    data = open_training_data("rec", lines, None, "", seed=0)
    assert len(data.train) + len(data.held) == 30
    assert not data.labelled


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((48, 100, 3), np.uint8))
    with pytest.raises(DataError, match="3 usable images, at least 4"):
        open_training_data("rec", tmp_path, None, "", seed=0)


def test_batches_are_what_the_model_takes(lines: Path) -> None:
    data = open_training_data("rec", lines / "labels.txt", None, "", seed=0)
    profile = load_profile("example")
    trained = list(training_batches(data, profile, seed=0, start=0, count=3))
    assert len(trained) == 3
    assert all(batch.shape[:3] == (8, 3, 48) for batch in trained)
    held = validation_batches(data, profile, seed=0)
    assert sum(len(batch) for batch in held) == 3
    assert sum(len(batch) for batch in calibration_batches(data, profile, seed=0)) == 27


def test_the_stream_can_be_entered_anywhere(lines: Path) -> None:
    data = open_training_data("rec", lines / "labels.txt", None, "", seed=0)
    profile = load_profile("example")
    whole = list(training_batches(data, profile, seed=3, start=0, count=4))
    tail = list(training_batches(data, profile, seed=3, start=2, count=2))
    assert all(bool((a == b).all()) for a, b in zip(whole[2:], tail, strict=True))


def test_without_data_text_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENDERED", {"rec": 12, "det": 4})
    profile = load_profile("example")
    data = open_training_data("rec", None, None, "abc0123456789", seed=0)
    assert data.rendered
    assert len(data.train) == 11
    assert next(training_batches(data, profile, 0, 0, 1)).shape[:3] == (8, 3, 48)
    pages = open_training_data("det", None, None, "", seed=0)
    assert next(training_batches(pages, profile, 0, 0, 1)).shape == (2, 3, 640, 640)
