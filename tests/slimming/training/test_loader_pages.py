"""Batches of pages: crops of one size, taken around boxes, and the targets that lie where the text is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ocrslim.config.profile import DetProfile, RecProfile, load_profile
from ocrslim.ocr.det_targets import shrink_maps
from ocrslim.ocr.labels import DetSample, TextBox
from ocrslim.ocr.transforms import normalize, resize_for_det
from ocrslim.slimming.training.loader import DetBatches

Image = NDArray[np.uint8]
REC, DET = RecProfile(), DetProfile()
NATURAL = DetProfile(limit_side_len=32)  # leaves images as they are


def _shade(level: int, height: int = 48, width: int = 100) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def _random(seed: int, height: int, width: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _period(row: NDArray[np.float32]) -> int:
    """Return the strongest period of a row, in pixels."""
    spectrum = np.abs(np.fft.rfft(row - row.mean()))
    return round(len(row) / int(spectrum[1:].argmax() + 1))


@pytest.mark.parametrize("shape", [(1, 1), (40, 40), (300, 2000), (2000, 300), (736, 1300), (640, 640)])
@pytest.mark.parametrize("augment", [True, False])
def test_crops_have_one_size_whatever_the_page(shape: tuple[int, int], augment: bool) -> None:
    batches = DetBatches([_random(0, *shape)], 2, DET, 0, crop=320, augment=augment)
    for step in range(3):
        batch = batches.batch(step)
        assert batch.shape == (2, 3, 320, 320)
        assert batch.dtype == np.float32
        assert np.isfinite(batch).all()


def test_crops_are_normalised_by_the_profile() -> None:
    profile = load_profile("rapidocr").det
    for one in (DET, profile):
        batch = DetBatches([_shade(200, 800, 800)], 1, one, 0, crop=320, augment=False).batch(0)
        expected = [(200 / 255 - mean) / std for mean, std in zip(one.mean, one.std, strict=True)]
        assert pytest.approx(np.tile(expected, (320 * 320, 1)), abs=1e-4) == batch[0].reshape(3, -1).T


def test_unaugmented_crops_are_cut_from_the_resized_page() -> None:
    page = _random(0, 768, 1024)
    batch = DetBatches([page], 1, NATURAL, 0, crop=128, augment=False).batch(0)[0]
    whole = normalize(page, NATURAL.mean, NATURAL.std)
    found = np.argwhere(np.isclose(whole[0], batch[0, 0, 0], atol=1e-6))
    matches = [whole[:, y : y + 128, x : x + 128] for y, x in found if y <= 768 - 128 and x <= 1024 - 128]
    assert any(np.allclose(window, batch, atol=1e-6) for window in matches)


def _marked(boxes: int) -> tuple[Image, tuple[TextBox, ...]]:
    """Return a page of noise with a pure blue mark at its far corner, and as many boxes around the mark."""
    page = np.repeat(np.random.default_rng(0).integers(100, 200, (960, 1280, 1)).astype(np.uint8), 3, axis=2)
    page[800:840, 1100:1200] = (255, 0, 0)
    points = np.array([[1100, 800], [1200, 800], [1200, 840], [1100, 840]], np.float32)
    return page, (TextBox(points, "mark", False),) * boxes


def _hits(batches: DetBatches, steps: int) -> float:
    """Return the share of crops that show the blue mark."""
    hits = []
    for step in range(steps):
        for crop in batches.batch(step):
            blue, red = (crop[i] * DET.std[i] + DET.mean[i] for i in (0, 2))
            hits.append(bool(((blue > 0.9) & (red < 0.1)).sum() > 20))
    return float(np.mean(hits))


def test_crops_are_taken_around_boxes(tmp_path: Path) -> None:
    page, boxes = _marked(1)
    path = tmp_path / "page.png"
    cv2.imwrite(str(path), page)
    with_boxes = DetBatches([DetSample(path, boxes, "set")], 2, NATURAL, 0, crop=320, augment=False)
    without = DetBatches([DetSample(path, (), "set")], 2, NATURAL, 0, crop=320, augment=False)
    assert _hits(with_boxes, 20) > 0.75
    assert _hits(without, 20) < 0.4


def test_boxes_follow_the_resizing(tmp_path: Path) -> None:
    """On a page shrunk to half a crop of 160 pixels still finds the box."""
    page, boxes = _marked(1)
    path = tmp_path / "page.png"
    cv2.imwrite(str(path), page)
    small = DetProfile(limit_side_len=640, limit_type="max")
    batches = DetBatches([DetSample(path, boxes, "set")], 2, small, 0, crop=160, augment=False)
    assert _hits(batches, 20) > 0.7


@pytest.mark.parametrize("augment", [False, True])
def test_targets_lie_where_the_text_is(tmp_path: Path, augment: bool) -> None:
    """The mark is drawn in blue and labelled: the map is its inside, whatever was cut and scaled."""
    page, boxes = _marked(1)
    path = tmp_path / "page.png"
    cv2.imwrite(str(path), page)
    batches = DetBatches([DetSample(path, boxes, "set")], 2, NATURAL, 3, crop=320, augment=augment, targets=True)
    seen = 0
    for step in range(15):
        batch = batches.batch(step)
        assert batch.shape == (2, 5, 320, 320)
        for crop in batch:
            blue, red = (crop[i] * DET.std[i] + DET.mean[i] for i in (0, 2))
            marked, text = (blue > 0.75) & (red < 0.25), crop[3] > 0
            if marked.sum() < 900:
                continue  # hardly any of it is on the crop
            seen += 1
            assert (marked & text).sum() > 0.98 * text.sum()
            assert 0.3 < text.sum() / marked.sum() < 0.8  # shrunk by .4: about half
    assert seen > 5


def test_targets_of_a_text_that_is_cut_off_are_those_of_the_whole(tmp_path: Path) -> None:
    """Where the crop cuts a long text, the map reaches its border: the text goes on beyond it."""
    page = np.full((64, 640, 3), 128, np.uint8)
    path = tmp_path / "page.png"
    cv2.imwrite(str(path), page)
    line = TextBox(np.array([[0, 10], [639, 10], [639, 50], [0, 50]], np.float32), "long", False)
    crop = DetBatches([DetSample(path, (line,), "set")], 1, NATURAL, 0, crop=64, augment=False, targets=True).batch(0)[
        0
    ]
    inside = [place for place in range(64) if crop[3, :, place].any()]
    assert len(inside) >= 50
    rows = crop[3, :, inside[len(inside) // 2]] > 0
    whole, _ = shrink_maps((64, 640), [line.points], [False])
    assert np.array_equal(rows, whole[:, 320] > 0)


def test_whole_pages_have_targets_too_and_ignored_texts_no_say(tmp_path: Path) -> None:
    page, (box,) = _marked(1)
    path = tmp_path / "page.png"
    cv2.imwrite(str(path), page)
    sample = DetSample(path, (box, TextBox(box.points - 400, "###", True)), "set")
    half = DetProfile(limit_side_len=640, limit_type="max")
    (batch,) = DetBatches([sample], 1, half, 0, targets=True).eval_batches()
    text, mask = batch[0, 3:]
    assert batch.shape == (1, 5, 480, 640)
    # 50 x 20 pixels at half the size, shrunk by 1000 * (1 - 0.4^2) / 140 = 6 from each side
    assert np.nonzero(text)[0][[0, -1]].tolist() == pytest.approx([406, 414], abs=1)
    assert mask[210, 375] == 0.0  # the middle of the ignored one
    assert mask[410, 575] == 1.0


def test_scales_spread_around_the_size_of_inference() -> None:
    page = np.zeros((1600, 1600, 3), np.uint8)
    page[:, np.arange(1600) % 32 < 16] = 255
    batches = DetBatches([page], 1, NATURAL, 0, crop=640)
    periods = np.array([_period(batches.batch(step)[0, 0, 320]) for step in range(60)])
    assert 16 <= periods.min() < 22
    assert 45 < periods.max() <= 66
    assert abs(np.median(np.log2(periods / 32))) < 0.3


def test_little_of_a_crop_lies_outside_the_page() -> None:
    batches = DetBatches([_shade(255, 700, 1000)], 1, DET, 0, crop=640)
    for step in range(30):
        crop = batches.batch(step)[0, 0] * DET.std[0] + DET.mean[0]
        assert (crop < 0.02).mean() < 0.25


def test_eval_batches_of_pages_are_whole_and_as_at_inference() -> None:
    pages = [_random(i, *shape) for i, shape in enumerate(((300, 500), (800, 736), (40, 40)))]
    batches = list(DetBatches(pages, 2, DET, 0).eval_batches())
    assert len(batches) == 3
    for page, batch in zip(pages, batches, strict=True):
        assert np.array_equal(batch[0], normalize(resize_for_det(page, DET)[0], DET.mean, DET.std))
        assert batch.shape[2] % 32 == batch.shape[3] % 32 == 0
