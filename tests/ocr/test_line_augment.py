"""PaddleOCR's augmentation of lines: bends against the formula, joins by hand, each change by its own chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocrslim.config.transforms import RecAug, RecConAug
from ocrslim.ocr.line_augment import augment_rec, bend, distort, join_lines, stretch_parts, tilt

Image = NDArray[np.uint8]
NEVER = RecAug(0, 0, 0, 0, 0, 0, 0)
CHANCES = ("tia_prob", "crop_prob", "reverse_prob", "noise_prob", "jitter_prob", "blur_prob", "hsv_aug_prob")


def smooth(height: int, width: int) -> Image:
    """Return an image whose values name their place: x in the first channel, y in the second."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)[None]
    image[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return image


def noisy(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def moving_least_squares(v: tuple[float, float], p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return f(v) of Schaefer et al. 2006, equation 5: written out with 2 x 2 matrices, one point."""
    w = 1 / ((p - v) ** 2).sum(1)
    p_star, q_star = (w[:, None] * p).sum(0) / w.sum(), (w[:, None] * q).sum(0) / w.sum()
    mu = sum(weight * ((point - p_star) ** 2).sum() for weight, point in zip(w, p, strict=True))
    total = np.zeros(2)
    for weight, (px, py), target in zip(w, p - p_star, q - q_star, strict=True):
        dx, dy = np.array(v) - p_star
        a = weight * np.array([[px, py], [py, -px]]) @ np.array([[dx, dy], [dy, -dx]])
        total += target @ a
    return total / mu + q_star


@pytest.mark.parametrize("seed", range(5))
def test_a_bend_is_moving_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = 48, 200
    points = np.array([[0, 0], [width, 0], [width, height], [0, height], [100, 0], [100, height]], float)
    moved = points + rng.uniform(-6, 6, points.shape)
    bent = bend(smooth(height, width), points, moved)
    for x, y in ((16, 16), (96, 24), (56, 8), (184, 40), (120, 32)):
        source = moving_least_squares((x, y), moved, points)
        expected = np.clip(source / (width - 1, height - 1), 0, 1) * 255
        # Interpolated between points 8 pixels apart, from values of whole levels.
        assert bent[y, x, :2] == pytest.approx(expected, abs=6)


def test_points_that_stay_change_nothing() -> None:
    image = noisy(32, 100)
    points = np.array([[0, 0], [100, 0], [100, 32], [0, 32], [50, 0]], float)
    # remap counts in 1/32 of a pixel
    assert np.abs(bend(image, points, points).astype(int) - image).max() <= 8


def test_a_shift_and_a_turn_are_exact() -> None:
    image = smooth(64, 64)
    points = np.array([[0, 0], [63, 0], [63, 63], [0, 63]], float)
    shifted = bend(image, points, points + np.array([10, 0]))
    assert np.abs(shifted[:, 10:].astype(int) - image[:, :-10]).max() <= 2
    turn = np.array([[0, -1], [1, 0]], float)
    turned = bend(image, points, (points - 31.5) @ turn.T + 31.5)
    assert np.abs(turned.astype(int) - np.rot90(image, -1)).max() <= 3


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 70), st.integers(20, 400), st.integers(0, 1000))
def test_bends_keep_size_and_type(height: int, width: int, seed: int) -> None:
    image, rng = noisy(height, width), np.random.default_rng(seed)
    for change in (lambda: distort(image, 4, rng), lambda: stretch_parts(image, 5, rng), lambda: tilt(image, rng)):
        changed = change()
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8


def test_stretching_moves_along_the_line_only() -> None:
    image = smooth(48, 300)
    changed = stretch_parts(image, 4, np.random.default_rng(1))
    assert np.abs(changed[..., 0].astype(int) - image[..., 0]).max() > 10
    assert np.abs(changed[8:-8, :, 1].astype(int) - image[8:-8, :, 1]).max() <= 24


def test_tilting_moves_up_and_down_only_into_the_image() -> None:
    image = smooth(48, 300)
    changed = tilt(image, np.random.default_rng(3))
    assert np.abs(changed[..., 1].astype(int) - image[..., 1]).max() > 20


def test_without_chances_the_line_stays() -> None:
    image = noisy(32, 100)
    assert augment_rec(image, NEVER, np.random.default_rng(0)) is image


@pytest.mark.parametrize("name", CHANCES)
def test_each_change_has_its_own_chance(name: str) -> None:
    image = noisy(40, 160)
    settings_ = RecAug(**{key: float(key == name) for key in CHANCES})
    changed = [augment_rec(image, settings_, np.random.default_rng(seed)) for seed in range(12)]
    if name == "hsv_aug_prob":  # a thousandth of the brightness
        assert all(np.abs(item.astype(int) - image).max() <= 6 for item in changed)
    elif name == "jitter_prob":  # up to a hundredth of the shorter side: nothing at 40 pixels
        assert all(np.array_equal(item, image) for item in changed)
    elif name == "noise_prob":
        differences = [np.abs(item.astype(int) - image) for item in changed]
        assert all(0 < item.mean() < 1 and item.max() <= 2 for item in differences)
    elif name == "crop_prob":
        assert all(32 <= item.shape[0] <= 39 and item.shape[1] == 160 for item in changed)
        assert any(np.array_equal(item, image[40 - item.shape[0] :]) for item in changed)
        assert any(np.array_equal(item, image[: item.shape[0]]) for item in changed)
    elif name == "reverse_prob":
        assert all(np.array_equal(item, 255 - image) for item in changed)
    else:
        assert all(item.shape == image.shape and not np.array_equal(item, image) for item in changed)


def test_large_lines_are_shaken() -> None:
    image = noisy(600, 700)
    shaking = RecAug(**{key: float(key == "jitter_prob") for key in CHANCES})
    changed = [augment_rec(image, shaking, np.random.default_rng(seed)) for seed in range(8)]
    moved = [item for item in changed if not np.array_equal(item, image)]
    assert moved
    for item in moved:  # the last copy lies over the others
        shifts = [
            step
            for step in range(1, 7)
            if np.array_equal(item[6:, 6:], image[6 - step : 600 - step, 6 - step : 700 - step])
        ]
        assert shifts


def test_chances_are_met() -> None:
    image = noisy(8, 30)  # too small to be cropped or bent
    reversing = RecAug(0, 0.9, 0.4, 0, 0, 0.9, 0)
    count = sum(
        np.array_equal(augment_rec(image, reversing, np.random.default_rng(seed)), 255 - image) for seed in range(400)
    )
    assert 120 < count < 200


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 200), st.integers(0, 1000))
def test_any_line_survives(height: int, width: int, seed: int) -> None:
    image = noisy(height, width)
    copy = image.copy()
    changed = augment_rec(image, RecAug(1, 1, 1, 1, 1, 1, 1), np.random.default_rng(seed))
    assert changed.ndim == 3
    assert min(changed.shape) > 0
    assert changed.dtype == np.uint8
    assert np.array_equal(image, copy)


def test_a_seed_decides() -> None:
    image = noisy(40, 200)
    one, same, other = (augment_rec(image, RecAug(1, 1, 0, 1, 1, 1, 1), np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_joining_by_hand() -> None:
    first, second = np.full((24, 48, 3), 10, np.uint8), np.full((96, 96, 3), 200, np.uint8)
    image, text = join_lines(first, "ab", [(second, "cd")], RecConAug(1.0, 2, (48, 320), 25))
    assert text == "abcd"
    assert image.shape == (48, 96 + 48, 3)
    assert (image[:, :96] == 10).all()
    assert (image[:, 96:] == 200).all()


@pytest.mark.parametrize(
    ("partners", "expected"),
    [
        ([], "abc"),
        ([(100, "de"), (100, "fg")], "abcdefg"),
        ([(100, "x" * 23), (100, "fg")], "abc"),  # too long: joining ends there
        ([(100, "x" * 22)], "abc" + "x" * 22),
        ([(250, "de")], "abc"),  # too wide
        ([(100, "de"), (150, "fg")], "abcde"),
    ],
)
def test_joining_ends_where_it_does_not_fit(partners: list[tuple[int, str]], expected: str) -> None:
    settings_ = RecConAug(1.0, 2, (48, 320), 25)
    others = [(noisy(48, width), text) for width, text in partners]
    image, text = join_lines(noisy(48, 100), "abc", others, settings_)
    assert text == expected
    assert image.shape[1] / image.shape[0] <= 320 / 48 + math.ulp(8.0) or expected == "abc"
