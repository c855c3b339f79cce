"""The split of the user's data, and rendered data where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ocrslim.config.profile import load_profile
from ocrslim.errors import DataError
from ocrslim.ocr.labels import DetSample, Skipped
from ocrslim.slimming.training import data as module
from ocrslim.slimming.training.data import (
    calibration_batches,
    compared_batches,
    labelled_validation,
    open_training_data,
    sensitivity_batches,
    training_batches,
    validation_batches,
)

SHARE = module.HELD_SHARE


@pytest.fixture(autouse=True)
def tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold back one image in ten, whatever the share is that serves real data best."""
    monkeypatch.setattr(module, "HELD_SHARE", {"rec": 0.1, "det": 0.1})


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


def test_batches_of_other_sizes(lines: Path) -> None:
    data, profile = open_training_data("rec", lines / "labels.txt", None, "", seed=0), load_profile("example")
    found = list(training_batches(data, profile, 0, 0, 6, batch=3, widest=profile.rec.width))
    assert {tuple(batch.shape) for batch in found} == {(3, 3, 48, profile.rec.width)}
    assert max(batch.shape[3] for batch in training_batches(data, profile, 0, 0, 6)) > profile.rec.width


def test_labels_come_with_the_same_images(lines: Path) -> None:
    data, profile = open_training_data("rec", lines / "labels.txt", None, "", seed=0), load_profile("example")
    said = dict[str, int]()

    def spell(text: str) -> np.ndarray | None:
        said[text] = said.get(text, 0) + 1
        return np.full(len(text), int(text[4:]), np.int64) if text and text != "text3" else None

    alike = {"seed": 0, "start": 2, "count": 7, "batch": 3, "widest": 320}
    plain, found = (
        list(training_batches(data, profile, **alike)),
        list(training_batches(data, profile, spell=spell, **alike)),
    )
    assert all(torch.equal(batch, other.images) for batch, other in zip(plain, found, strict=True))
    for batch in found:
        for label, length in zip(batch.targets["label_ctc"], batch.targets["length"].tolist(), strict=True):
            assert length in (0, 5, 6)
            assert not label[length:].any()
            assert len(set(label[:length].tolist())) <= 1
    assert said[""] < sum(said.values()) == 21
    assert sum(int((batch.targets["length"] > 0).sum()) for batch in found) == 21 - said[""] - said.get("text3", 0)


def test_without_data_text_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENDERED", {"rec": 12, "det": 4})
    profile = load_profile("example")
    data = open_training_data("rec", None, None, "abc0123456789", seed=0)
    assert data.rendered
    assert len(data.train) == 11
    assert next(training_batches(data, profile, 0, 0, 1)).shape[:3] == (8, 3, 48)
    pages = open_training_data("det", None, None, "", seed=0)
    assert next(training_batches(pages, profile, 0, 0, 1)).shape == (2, 3, 640, 640)


def _damage(folder: Path, *indices: int) -> set[str]:
    """Cut images off in their middle; return their paths."""
    for index in indices:
        path = folder / f"{index:02}.png"
        path.write_bytes(path.read_bytes()[:60])
    return {str(folder / f"{index:02}.png") for index in indices}


def test_images_found_damaged_on_the_way_are_reported(lines: Path) -> None:
    broken = _damage(lines, 3, 7, 20)
    data = open_training_data("rec", lines / "labels.txt", None, "", seed=0)
    assert [item.where for item in data.left_out] == [f"{lines / 'labels.txt'}:31"]  # the files are there
    profile = load_profile("example")
    validation_batches(data, profile, seed=0)
    calibration_batches(data, profile, seed=0)
    assert {item.where for item in data.left_out[1:]} == broken
    for _ in training_batches(data, profile, seed=0, start=0, count=4):
        pass
    assert len(data.left_out) == 4  # each once
    assert data.left_out[0] == data.skipped[0]
    assert all(Path(item.where).name in item.reason for item in data.left_out[1:])


def test_training_alone_finds_what_calibration_did_not_see(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALIBRATION_IMAGES", {"rec": 1, "det": 1})
    data = open_training_data("rec", lines, None, "", seed=0)
    last = data.train[-1]
    assert isinstance(last, Path)
    last.write_bytes(b"")
    profile = load_profile("example")
    calibration_batches(data, profile, seed=0)
    assert data.left_out == ()
    for _ in training_batches(data, profile, seed=0, start=0, count=8):
        pass
    assert [item.where for item in data.left_out] == [str(last)]


def test_two_runs_do_not_share_what_they_found(lines: Path) -> None:
    one, other = (open_training_data("rec", lines, None, "", seed=0) for _ in range(2))
    one.damaged["a.png"] = "cut"
    assert one.left_out == (Skipped("a.png", "cut"),)
    assert other.left_out == ()


@pytest.mark.parametrize(("count", "held"), [(4, 1), (14, 1), (16, 2), (30, 3)])
def test_the_share_is_held_back_and_one_image_at_least(lines: Path, count: int, held: int) -> None:
    few = lines / "few.txt"
    few.write_text("".join(f"{index:02}.png\tx\n" for index in range(count)), encoding="utf-8")
    data = open_training_data("rec", few, None, "", seed=0)
    assert (len(data.held), len(data.train)) == (held, count - held)


def test_no_more_is_held_back_than_judges(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_MOST", {"rec": 2, "det": 1})
    assert len(open_training_data("rec", lines, None, "", seed=0).held) == 2
    assert len(open_training_data("det", lines, None, "", seed=0).held) == 1


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    rows = []
    for index in range(12):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((200, 300, 3), 10 * index, np.uint8))
        box = {"transcription": "word", "points": [[10, 10], [90, 10], [90, 40], [10, 40]]}
        rows.append(f"{index}.png\t{json.dumps([box] if index else [])}")
    (tmp_path / "det.txt").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def test_pages_train_with_their_boxes_and_those_without_as_images(pages: Path) -> None:
    data = open_training_data("det", pages / "det.txt", None, "", seed=1)
    kinds = {item.image.name if isinstance(item, DetSample) else Path(str(item)).name for item in data.train}
    assert len(kinds) == 11
    assert all(item.boxes for item in data.train if isinstance(item, DetSample))
    plain = [item for item in data.train if not isinstance(item, DetSample)]
    assert [Path(str(item)).name for item in plain] == (["0.png"] if pages / "0.png" not in data.held else [])
    assert all(isinstance(item, Path) for item in data.held)


def test_a_held_page_without_a_box_is_a_page_without_text(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One such page must not turn a judgement by labels into one by agreement."""
    monkeypatch.setattr(module, "HELD_SHARE", {"rec": 0.9, "det": 0.9})
    seeds = [open_training_data("det", pages / "det.txt", None, "", seed=seed) for seed in range(3)]
    assert any(pages / "0.png" in data.held for data in seeds)
    assert all(data.labelled for data in seeds)
    assert not open_training_data("det", pages, None, "", seed=0).labelled  # a folder has no labels


def test_a_detectors_held_pages_come_whole_one_by_one(pages: Path) -> None:
    data = open_training_data("det", pages / "det.txt", None, "", seed=1)
    profile = load_profile("paddleocr")
    held = validation_batches(data, profile, seed=0)
    assert [batch.shape for batch in held] == [(1, 3, 192, 288)]  # 200 x 300 in whole strides
    assert len(calibration_batches(data, profile, seed=0)) == 11


def test_held_pages_with_labels_are_bound_by_their_pixels(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_SHARE", {"rec": 0.9, "det": 0.9})
    data, profile = open_training_data("det", pages / "det.txt", None, "", seed=1), load_profile("paddleocr")
    pixels = 192 * 288
    for most, count in ((100 * pixels, 11), (3 * pixels, 3), (1, 1)):
        monkeypatch.setattr(module, "LABELLED_PIXELS", most)
        held = labelled_validation(data, profile, seed=0)
        assert [batch.images.shape for batch in held] == count * [(1, 3, 192, 288)]
        assert {batch.targets["shrink_map"].shape for batch in held} == {(1, 192, 288)}


def test_rendered_lines_depend_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENDERED", {"rec": 5, "det": 4})
    profile = load_profile("example")
    one, same, other = (
        validation_batches(open_training_data("rec", None, None, "abc", seed=seed), profile, 0) for seed in (1, 1, 2)
    )
    assert np.array_equal(one[0], same[0])
    assert one[0].shape != other[0].shape or not np.array_equal(one[0], other[0])


def test_only_damaged_images_stop_the_run_with_one_reason(lines: Path) -> None:
    data = open_training_data("rec", lines, None, "", seed=0)
    _damage(lines, *range(30))
    with pytest.raises(DataError, match=r"none of 27 images can be read; .*png"):
        calibration_batches(data, load_profile("example"), seed=0)
    with pytest.raises(DataError, match="none of 27 images can be read"):
        list(training_batches(data, load_profile("example"), 0, 0, 1))


def test_the_share_that_serves_real_data_leaves_most_of_it_to_learn_from() -> None:
    assert all(0.05 <= share <= 0.4 for share in SHARE.values())
    assert all(module.VALIDATION_IMAGES[task] <= most for task, most in module.HELD_MOST.items())


@pytest.mark.parametrize("most", [1, 2, 3])
def test_torch_looks_at_the_first_held_images_only(lines: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(module, "VALIDATION_IMAGES", {"rec": most, "det": 1})
    data = open_training_data("rec", lines, None, "", seed=0)
    held = validation_batches(data, load_profile("example"), seed=0)
    assert sum(len(batch) for batch in held) == most


def test_the_engine_looks_at_more_of_them_than_torch(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VALIDATION_IMAGES", {"rec": 1, "det": 1})
    monkeypatch.setattr(module, "COMPARED_IMAGES", {"rec": 3, "det": 1})
    data = open_training_data("rec", lines, None, "", seed=0)
    held, compared = (make(data, load_profile("example"), seed=0) for make in (validation_batches, compared_batches))
    assert sum(map(len, held)) == 1
    assert sum(map(len, compared)) == 3


@pytest.mark.parametrize(("calibration", "fresh"), [(10, True), (27, False), (99, False)])
def test_sensitivity_is_judged_on_images_that_calibration_did_not_see(
    lines: Path, monkeypatch: pytest.MonkeyPatch, calibration: int, fresh: bool
) -> None:
    monkeypatch.setattr(module, "CALIBRATION_IMAGES", {"rec": calibration, "det": 1})
    data = open_training_data("rec", lines, None, "", seed=0)
    for image in data.train[:10] if fresh else data.train[12:]:
        assert isinstance(image, Path)
        image.unlink()  # a batch that needs one of them notes it as damaged
    monkeypatch.setattr(module, "SENSITIVITY_BATCHES", {"rec": 1, "det": 1})
    (batch,) = sensitivity_batches(data, load_profile("example"), seed=0)
    assert batch.shape[:3] == (12, 3, 48)
    assert data.left_out == ()
