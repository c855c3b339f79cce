"""Augmentation: deterministic, bounded, and doing what each docstring says."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocrslim.ocr import augment
from ocrslim.ocr.augment import (
    augment_line,
    augment_page,
    blur,
    brightness_contrast,
    busiest_window,
    jpeg,
    noise,
    perspective,
    photometric,
    rescale,
    scaled_square,
    shrink_to_height,
    stretch,
    window_around,
)

Image = NDArray[np.uint8]
Change = Callable[..., Image]
CHANGES: list[Change] = [blur, brightness_contrast, jpeg, noise, perspective, photometric, rescale, stretch]
ALL: list[Change] = [*CHANGES, augment_line, augment_page]
KEEP_SIZE: list[Change] = [blur, brightness_contrast, jpeg, noise, perspective, photometric, rescale, augment_page]


def _text_image(height: int = 40, width: int = 200) -> Image:
    image = np.full((height, width, 3), (230, 240, 250), np.uint8)
    cv2.putText(image, "Sample", (10, height - 12), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (20, 30, 60), 2)
    return image


def _flat(level: int, height: int = 64, width: int = 96) -> Image:
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("change", ALL)
def test_the_same_generator_gives_the_same_image_and_the_input_stays(change: Change) -> None:
    image = _text_image()
    before = image.copy()
    for seed in range(5):
        first, second = (change(image, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first, second)
        assert first.dtype == np.uint8
        assert first.ndim == 3
        assert first.shape[2] == 3
    assert np.array_equal(image, before)


@pytest.mark.parametrize("change", ALL)
def test_another_seed_gives_another_image(change: Change) -> None:
    images = [change(_text_image(), np.random.default_rng(seed)).tobytes() for seed in range(20)]
    assert len(set(images)) >= 5


@pytest.mark.parametrize("change", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 2), (5, 300)])
def test_tiny_and_thin_images_pass(change: Change, shape: tuple[int, int]) -> None:
    for seed in range(10):
        out = change(np.full((*shape, 3), 99, np.uint8), np.random.default_rng(seed))
        assert out.dtype == np.uint8
        assert min(out.shape[:2]) >= 1


@pytest.mark.parametrize("change", KEEP_SIZE)
def test_the_size_is_kept(change: Change) -> None:
    for seed in range(10):
        assert change(_text_image(37, 111), np.random.default_rng(seed)).shape == (37, 111, 3)


@pytest.mark.parametrize("change", ALL)
def test_a_view_into_a_larger_image_is_as_good_as_a_copy(change: Change) -> None:
    view = _text_image(60, 300)[5:45, 30:230]
    results = [change(image, np.random.default_rng(3)) for image in (view, view.copy())]
    assert np.array_equal(*results)


@pytest.mark.parametrize("change", [brightness_contrast, perspective, rescale, stretch, noise])
def test_strength_nought_changes_nothing(change: Change) -> None:
    image = _text_image()
    for seed in range(5):
        difference = cv2.absdiff(change(image, np.random.default_rng(seed), 0.0), image)
        assert difference.max() <= 1  # warping by the identity may round


def test_brightness_and_contrast_follow_the_formula() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    out = brightness_contrast(levels, np.random.default_rng(7), 1.0)
    draws = np.random.default_rng(7)
    contrast, shift = 1.0 + 0.3 * draws.uniform(-1, 1), 40.0 * draws.uniform(-1, 1)
    expected = np.clip(np.rint((np.arange(256) - 128.0) * contrast + 128.0 + shift), 0, 255)
    assert np.array_equal(out[0, :, 0], expected.astype(np.uint8))
    assert np.array_equal(out[..., 0], out[..., 2])


def test_noise_is_normal_with_the_deviation_that_it_drew() -> None:
    for seed in range(5):
        out = noise(_flat(128, 256, 256), np.random.default_rng(seed)).astype(float) - 128.0
        sigma = np.random.default_rng(seed).uniform(1.0, 10.0)
        assert out.std() == pytest.approx(sigma, rel=0.06, abs=0.1)
        assert abs(out.mean()) < 0.1
        assert abs(float((out**3).mean())) < 0.1 * sigma**3 + 0.1
        assert abs(float(np.corrcoef(out[:, :-1, 0].ravel(), out[:, 1:, 0].ravel())[0, 1])) < 0.02


@pytest.mark.parametrize("change", [blur, rescale])
def test_losing_detail_keeps_the_mean_and_loses_contrast(change: Change) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for seed in range(8):
        out = change(image, np.random.default_rng(seed))
        assert out.mean() == pytest.approx(image.mean(), abs=4)
        assert out.std() <= image.std() + 0.5
        flat = change(_flat(77), np.random.default_rng(seed))
        assert np.array_equal(flat, _flat(77))


def test_blur_is_sometimes_of_motion() -> None:
    point = np.zeros((21, 21, 3), np.uint8)
    point[10, 10] = 255
    spread = []
    for seed in range(40):
        y, x = np.nonzero(blur(point, np.random.default_rng(seed))[..., 0])
        spread.append((np.ptp(y), np.ptp(x)))
    assert any(abs(int(high) - int(wide)) >= 2 for high, wide in spread)  # a line
    assert any(high == wide for high, wide in spread)  # a disc, or nothing


def test_jpeg_stays_close_and_strength_bounds_the_loss() -> None:
    image = _text_image(64, 256)
    losses = []
    for strength in (0.2, 1.0):
        errors = [cv2.absdiff(jpeg(image, np.random.default_rng(s), strength), image).mean() for s in range(12)]
        assert 0.0 < np.mean(errors) < 6.0
        losses.append(np.mean(errors))
    assert losses[0] < losses[1]


def test_perspective_moves_the_middle_a_little_and_to_no_side_in_particular() -> None:
    image = _flat(0, 100, 300)
    image[45:55, 145:155] = 255
    middles = []
    for seed in range(60):
        y, x = np.nonzero(perspective(image, np.random.default_rng(seed))[..., 0] > 127)
        middles.append((x.mean() - 149.5, y.mean() - 49.5))
    aside, up = np.abs(middles).max(axis=0)
    assert 1.5 <= up <= 10.0 + 1.0
    assert 1.5 <= aside <= 10.0 + 0.1 * 300  # the side that is nearer takes more room
    assert np.abs(np.mean(middles, axis=0)).max() < 3.0  # to no side in particular


def test_perspective_brings_no_foreign_colour_into_view() -> None:
    for seed in range(10):
        assert np.array_equal(perspective(_flat(201), np.random.default_rng(seed)), _flat(201))


def test_stretch_changes_the_width_alone_and_by_a_quarter_at_most() -> None:
    widths = []
    for seed in range(60):
        out = stretch(_text_image(40, 200), np.random.default_rng(seed))
        assert out.shape[0] == 40
        widths.append(out.shape[1])
    assert 160 <= min(widths) < 175
    assert 230 < max(widths) <= 250


@pytest.mark.parametrize(("function", "share"), [(augment_line, 0.4), (augment_page, 0.5)])
def test_many_images_stay_as_they_are(function: Change, share: float) -> None:
    image = _text_image()
    same = [function(image, np.random.default_rng(seed)) is image for seed in range(400)]
    assert share - 0.06 <= np.mean(same) <= share + 0.15  # a few more drew no change


def test_lines_keep_their_height_and_pages_their_text_in_place() -> None:
    for seed in range(40):
        out = augment_line(_text_image(40, 200), np.random.default_rng(seed))
        assert out.shape[0] == 40
        assert 160 <= out.shape[1] <= 250
    page = _text_image(64, 256)
    dark = page.mean(axis=2) < 128
    for seed in range(20):
        out = augment_page(page, np.random.default_rng(seed)).mean(axis=2)
        assert out[dark].mean() < out[~dark].mean() - 50


@given(
    x=st.floats(0, 999),
    y=st.floats(0, 499),
    side=st.integers(1, 1500),
    seed=st.integers(0, 2**32),
    size=st.integers(1, 99),
)
@settings(deadline=None)
def test_a_window_around_points_holds_their_middle_and_stays_inside(
    x: float, y: float, side: int, seed: int, size: int
) -> None:
    points = np.array([[x - size, y], [x + size, y]], np.float32)
    top, left = window_around(points, (500, 1000), side, np.random.default_rng(seed))
    assert 0 <= top <= max(0, 500 - side)
    assert 0 <= left <= max(0, 1000 - side)
    assert top - 1 <= y <= top + side + 1
    assert left - 1 <= x <= left + side + 1


def test_windows_around_points_are_spread() -> None:
    points = np.array([[500, 250]], np.float32)
    lefts = [window_around(points, (500, 1000), 200, np.random.default_rng(seed))[1] for seed in range(200)]
    assert min(lefts) < 330
    assert max(lefts) > 470


def test_the_busiest_window_finds_text() -> None:
    image = _flat(240, 1000, 1000)
    image[700:900, 50:300] = np.random.default_rng(0).integers(0, 2, (200, 250, 1)).astype(np.uint8) * 255

    def overlaps(top: int, left: int) -> bool:
        return top + 300 > 720 and left < 280

    found = [overlaps(*busiest_window(image, 300, np.random.default_rng(seed))) for seed in range(200)]
    rng = np.random.default_rng(1)
    chance = np.mean([overlaps(*rng.integers(0, 701, 2)) for _ in range(2000)])
    assert np.mean(found) > 1 - (1 - chance) ** augment.LOOKS - 0.1
    assert np.mean(found) > 1.8 * chance


def test_the_busiest_window_of_a_small_image_is_the_image() -> None:
    assert busiest_window(_flat(0, 50, 80), 80, np.random.default_rng(0)) == (0, 0)
    assert busiest_window(_flat(0, 3, 3), 2, np.random.default_rng(0))[0] in (0, 1)


def test_a_full_square_is_the_window_itself() -> None:
    window = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert np.array_equal(scaled_square(window, 64, 1.0, np.random.default_rng(0))[0], window)


@pytest.mark.parametrize(("shape", "scale"), [((64, 40), 1.0), ((30, 128), 0.5), ((10, 10), 2.0), ((1, 1), 0.1)])
def test_a_window_that_does_not_fill_the_square_lies_on_black(shape: tuple[int, int], scale: float) -> None:
    square, where = scaled_square(np.full((*shape, 3), 200, np.uint8), 64, scale, np.random.default_rng(5))
    assert square.shape == (64, 64, 3)
    expected = max(1, round(shape[0] * scale)) * max(1, round(shape[1] * scale))
    assert int((square[..., 0] == 200).sum()) == expected
    assert set(np.unique(square)) == {0, 200}
    assert (square[where] == 200).all()
    assert square[where].size == 3 * expected


def test_only_tall_images_are_shrunk() -> None:
    image = _text_image(100, 300)
    assert shrink_to_height(image, 100) is image
    assert shrink_to_height(image, 25).shape == (25, 75, 3)
    assert shrink_to_height(_flat(9, 500, 1), 10).shape == (10, 1, 3)
