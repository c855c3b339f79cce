"""Batches: a pure function of seed and step, every image once an epoch, damaged ones named, shapes as at inference."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ocrslim.config.profile import DetProfile, RecProfile
from ocrslim.errors import DataError
from ocrslim.ocr.labels import RecSample
from ocrslim.ocr.transforms import resize_for_rec
from ocrslim.slimming.training.loader import DetBatches, RecBatches

Image = NDArray[np.uint8]
REC, DET = RecProfile(), DetProfile()


def _shade(level: int, height: int = 48, width: int = 100) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def _shades(n: int) -> list[Image]:
    return [_shade(10 * i) for i in range(n)]


def _levels(batch: NDArray[np.float32]) -> list[int]:
    """Return which of ``_shades`` each line of a batch is, by its first pixel."""
    return [round((float(line[0, 0, 0]) * 0.5 + 0.5) * 255 / 10) for line in batch]


def _random(seed: int, height: int, width: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


# ---- the stream


def test_the_batches_of_a_training_step_are_as_wide_as_each_other() -> None:
    lines = [_random(i, 48, 2000) for i in range(6)]
    alone = [RecBatches(lines, 2, REC, 0).batch(step).shape[3] for step in range(6)]
    shared = [RecBatches(lines, 2, REC, 0, together=3).batch(step).shape[3] for step in range(18)]
    assert len(set(alone)) > 2
    assert shared == [width for width in alone for _ in range(3)]


@pytest.mark.parametrize(("n", "batch"), [(10, 5), (10, 3), (3, 8), (1, 4)])
def test_every_image_comes_once_an_epoch(n: int, batch: int) -> None:
    batches = RecBatches(_shades(n), batch, REC, seed=0, augment=False)
    stream = [level for step in range(n * 2) for level in _levels(batches.batch(step))]
    for epoch in range(len(stream) // n):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_every_epoch_has_an_order_of_its_own_and_the_seed_decides_it() -> None:
    def epochs(seed: int) -> list[tuple[int, ...]]:
        batches = RecBatches(_shades(20), 20, REC, seed, augment=False)
        return [tuple(_levels(batches.batch(step))) for step in range(4)]

    assert epochs(3) == epochs(3)
    assert len({*epochs(3), *epochs(4)}) == 8


@pytest.mark.parametrize("augment", [True, False])
def test_a_batch_is_a_pure_function_of_seed_and_step(augment: bool) -> None:
    lines = [_random(i, 20 + 7 * i, 30 + 90 * i) for i in range(9)]
    pages = [_random(i, 300 + 100 * i, 500) for i in range(3)]
    for kind, images, profile in ((RecBatches, lines, REC), (DetBatches, pages, DET)):
        forward = kind(images, 2, profile, 7, augment=augment)
        backward = kind(images, 2, profile, 7, augment=augment)
        there = [forward.batch(step) for step in range(6)]
        back = [backward.batch(step) for step in reversed(range(6))][::-1]
        for one, other in zip(there, back, strict=True):
            assert np.array_equal(one, other)
        assert not np.array_equal(forward.batch(0), kind(images, 2, profile, 8, augment=augment).batch(0))


def test_images_are_not_changed_in_place() -> None:
    line, page = _random(0, 60, 500), _random(1, 400, 400)
    copies = line.copy(), page.copy()
    for step in range(10):
        RecBatches([line], 2, REC, 0).batch(step)
        DetBatches([page], 1, DET, 0, crop=64).batch(step)
    assert np.array_equal(line, copies[0])
    assert np.array_equal(page, copies[1])


def test_the_same_image_is_augmented_anew_each_time() -> None:
    batches = RecBatches([_random(0, 48, 300)], 8, REC, 0)
    lines = [line.tobytes() for line in batches.batch(0)]
    assert len(set(lines)) >= 4


def test_no_images_and_no_batch_are_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        RecBatches([], 8, REC, 0)
    with pytest.raises(ValueError, match="batch"):
        DetBatches([_shade(0)], 0, DET, 0)
    with pytest.raises(ValueError, match="multiple of 32"):
        DetBatches([_shade(0)], 1, DET, 0, crop=100)


# ---- damaged images


def _folder(tmp_path: Path, good: int) -> list[Path]:
    paths = []
    for level in range(good):
        paths.append(tmp_path / f"{level}.png")
        cv2.imwrite(str(paths[-1]), _shade(10 * level))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:40])
    return [*paths, tmp_path / "empty.png", tmp_path / "text.jpg", tmp_path / "cut.png", tmp_path / "gone.png"]


def test_damaged_images_are_named_once_and_another_stands_in(tmp_path: Path) -> None:
    paths = _folder(tmp_path, 8)
    batches = RecBatches(paths, 4, REC, 0, augment=False)
    levels = Counter(level for step in range(3 * 3) for level in _levels(batches.batch(step)))
    assert set(levels) == set(range(8))
    assert set(batches.damaged) == {str(path) for path in paths[8:]}
    assert all(Path(path).name in reason for path, reason in batches.damaged.items())


def test_damaged_images_do_not_break_purity(tmp_path: Path) -> None:
    paths = _folder(tmp_path, 5)
    fresh, used = (RecBatches(paths, 4, REC, 1) for _ in range(2))
    for step in range(5):
        used.batch(step)
    assert np.array_equal(fresh.batch(5), used.batch(5))


def test_only_damaged_images_is_an_error_that_names_one(tmp_path: Path) -> None:
    paths = _folder(tmp_path, 1)[1:]
    for batches in (RecBatches(paths, 2, REC, 0), DetBatches(paths, 2, DET, 0)):
        with pytest.raises(DataError, match=r"none of 4 images.*(empty|text|cut|gone)"):
            batches.batch(0)
        with pytest.raises(DataError, match="none of 4 images"):
            list(batches.eval_batches())


def test_eval_batches_leave_damaged_images_out(tmp_path: Path) -> None:
    batches = RecBatches(_folder(tmp_path, 6), 4, REC, 0)
    levels = [level for batch in batches.eval_batches() for level in _levels(batch)]
    assert sorted(levels) == list(range(6))
    assert len(batches.damaged) == 4


# ---- lines


def test_a_batch_is_as_wide_as_its_widest_line_but_not_below_the_profile() -> None:
    narrow, wide = _shade(50, 48, 90), _shade(50, 48, 500)
    assert RecBatches([narrow], 3, REC, 0, augment=False).batch(0).shape == (3, 3, 48, 320)
    assert RecBatches([wide], 3, REC, 0, augment=False).batch(0).shape == (3, 3, 48, 500)
    assert RecBatches([wide, narrow], 2, REC, 0, augment=False).batch(0).shape == (2, 3, 48, 500)


def test_lines_are_made_as_at_inference() -> None:
    for image in (_random(0, 31, 60), _random(1, 90, 400), _random(2, 48, 320)):
        batch = RecBatches([image], 1, REC, 0, augment=False).batch(0)
        assert batch.dtype == np.float32
        assert np.array_equal(batch[0], resize_for_rec(image, REC, 320))


def test_padding_is_zero() -> None:
    batch = RecBatches([_shade(255, 48, 100)], 1, REC, 0, augment=False).batch(0)[0]
    assert (batch[:, :, :100] == 1.0).all()
    assert (batch[:, :, 100:] == 0.0).all()


def _period(row: NDArray[np.float32]) -> int:
    """Return the strongest period of a row, in pixels."""
    spectrum = np.abs(np.fft.rfft(row - row.mean()))
    return round(len(row) / int(spectrum[1:].argmax() + 1))


def test_a_line_too_wide_is_cut_and_not_squeezed() -> None:
    line = np.zeros((48, 4000, 3), np.uint8)
    line[:, np.arange(4000) % 16 < 8] = 255
    batches = RecBatches([line], 4, REC, 0, max_width=640, augment=False)
    assert batches.batch(0).shape == (4, 3, 48, 640)
    assert {_period(row) for row in batches.batch(0)[:, 0, 20]} == {16}


def test_texts_come_with_the_lines_that_are_whole(tmp_path: Path) -> None:
    samples = []
    for index, width in enumerate((100, 900, 60, 300)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), _shade(10 * index, width=width))
        samples.append(RecSample(tmp_path / f"{index}.png", None if index == 2 else f"text {index}", "set"))
    batches = RecBatches(samples, 4, REC, seed=0, max_width=320, augment=False)
    for step in range(3):
        images, texts = batches.labelled(step)
        assert np.array_equal(images, batches.batch(step))
        assert dict(zip(_levels(images), texts, strict=True)) == {0: "text 0", 1: "", 2: "", 3: "text 3"}


def test_a_cut_falls_anywhere() -> None:
    line = np.repeat((np.arange(4096) // 16).astype(np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    batches = RecBatches([line], 8, REC, 0, max_width=640, augment=False)
    starts = [(float(one[0, 0, 0]) * 0.5 + 0.5) * 255 * 16 for step in range(10) for one in batches.batch(step)]
    assert min(starts) < 400
    assert max(starts) > 4096 - 640 - 400


@pytest.mark.parametrize("max_width", [320, 400, 640])
def test_augmented_widths_vary_within_the_bounds(max_width: int) -> None:
    lines = [_random(i, 40, 40 * (1 + 4 * i)) for i in range(8)]
    batches = RecBatches(lines, 8, REC, 0, max_width=max_width)
    widths = [batches.batch(step).shape[-1] for step in range(20)]
    assert min(widths) >= 320
    assert max(widths) <= max_width
    assert all(width % 32 == 0 or width == max_width for width in widths)
    assert len(set(widths)) >= {320: 1, 400: 3, 640: 7}[max_width]


def test_the_profile_bounds_the_width_too() -> None:
    profile = RecProfile(width=96, max_width=128)
    batches = RecBatches([_shade(9, 48, 900)], 2, profile, 0)
    assert all(96 <= batches.batch(step).shape[-1] <= 128 for step in range(10))


def test_the_height_and_normalisation_are_the_profiles() -> None:
    profile = RecProfile(height=32, width=100, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    batch = RecBatches([_shade(51, 64, 64)], 2, profile, 0, augment=False).batch(0)
    assert batch.shape == (2, 3, 32, 100)
    assert batch[:, :, :, :32] == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3), (2000, 300)])
def test_lines_of_odd_shapes_pass(shape: tuple[int, int]) -> None:
    batches = RecBatches([_random(0, *shape)], 4, REC, 0)
    for step in range(5):
        batch = batches.batch(step)
        assert batch.shape[:3] == (4, 3, 48)
        assert np.isfinite(batch).all()
        assert np.abs(batch).max() <= 1.0 + 1e-6


def test_eval_batches_of_lines_are_sorted_whole_and_not_augmented() -> None:
    lines = [_random(i, 48, width) for i, width in enumerate((700, 60, 400, 90, 330, 3000, 10))]
    batches = list(RecBatches(lines, 2, REC, 0, max_width=640).eval_batches())
    assert [batch.shape for batch in batches] == [
        (2, 3, 48, 320),
        (2, 3, 48, 330),
        (2, 3, 48, 640),
        (1, 3, 48, 640),
    ]
    assert np.array_equal(batches[1][1], resize_for_rec(lines[4], REC, 330))
    middle = (3000 - 640) // 2
    whole = [line for batch in batches for line in batch]
    assert any(np.array_equal(line, resize_for_rec(lines[5][:, middle : middle + 640], REC, 640)) for line in whole)


# ---- real images


@pytest.mark.parametrize(("kind", "batch"), [("rec", 8), ("det", 2)])
def test_real_images_are_all_readable_and_look_natural(real_data: Path, kind: str, batch: int) -> None:
    lines = (real_data / kind / "labels" / "train.txt").read_text(encoding="utf-8").splitlines()
    paths = [real_data / line.split("\t")[0] for line in lines]
    batches = RecBatches(paths, batch, REC, 0) if kind == "rec" else DetBatches(paths, batch, DET, 0)
    for step in range(8):
        made = batches.batch(step)
        assert np.isfinite(made).all()
        assert made.shape[:2] == (batch, 3)
        assert 0.1 < made.std() < 2.5
    assert not batches.damaged


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bound"), [("rec", 0.05), ("det", 0.16)])
def test_batches_are_made_faster_than_a_step_takes(real_data: Path, kind: str, bound: float) -> None:
    """A training step takes a second; the bounds are twice what a quiet machine of two cores needs at most."""
    lines = (real_data / kind / "labels" / "train.txt").read_text(encoding="utf-8").splitlines()
    paths = [real_data / line.split("\t")[0] for line in lines]
    batches = RecBatches(paths, 8, REC, 0) if kind == "rec" else DetBatches(paths, 2, DET, 0)
    seconds = []
    for step in range(30):
        start = time.perf_counter()
        batches.batch(step)
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds) < bound
