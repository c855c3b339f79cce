"""Geometry of pages and polygons: by hand, and the image and its polygons always together."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocrslim.config.transforms import IaaAugment
from ocrslim.ocr.det_augment import crop_window, flip, geometric, place_window, rotate, scale

Points = NDArray[np.float32]
Image = NDArray[np.uint8]


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def page(height: int, width: int, polygons: list[Points]) -> Image:
    """Return a black page with the polygons white; a box from x to x' covers the pixels from x to x' - 1."""
    image = np.zeros((height, width, 3), np.uint8)
    for polygon in polygons:
        fine = np.zeros((height * 4, width * 4), np.uint8)
        cv2.fillPoly(fine, [np.rint(polygon * 4 - 0.5).astype(np.int32)], 255)
        image = np.maximum(image, cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)[..., None])
    return image


def agreement(image: Image, polygons: list[Points]) -> float:
    """Return the overlap of what is white and what the polygons cover."""
    white = image[..., 0] > 127
    drawn = page(*image.shape[:2], polygons)[..., 0] > 127
    return float((white & drawn).sum() / max(1, (white | drawn).sum()))


def test_flip_by_hand() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    polygon = np.array([[0, 0], [1, 0], [1, 2]], np.float32)
    turned, moved = flip(image, [polygon])
    assert turned[:, 0].tolist() == image[:, 1].tolist()
    assert moved[0].tolist() == [[2, 0], [1, 0], [1, 2]]
    turned, moved = flip(image, [polygon], horizontal=False)
    assert turned[0].tolist() == image[1].tolist()
    assert moved[0].tolist() == [[0, 2], [1, 2], [1, 0]]
    assert polygon[0].tolist() == [0, 0]


@pytest.mark.parametrize("horizontal", [True, False])
def test_two_flips_are_none(horizontal: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    polygons = [box(1, 2, 5, 6)]
    there = flip(*flip(image, polygons, horizontal), horizontal)
    assert np.array_equal(there[0], image)
    assert np.array_equal(there[1][0], polygons[0])


def test_a_quarter_turn_by_hand() -> None:
    # Clockwise as seen: what is at the top comes to the right.
    image = np.zeros((5, 5, 3), np.uint8)
    image[0, 1] = 255
    turned, moved = rotate(image, [box(1, 0, 2, 1)], 90)
    assert turned[1, 4].tolist() == [255, 255, 255]
    assert turned.sum() == 3 * 255
    assert moved[0].tolist() == [[5, 1], [5, 2], [4, 2], [4, 1]]


def test_a_page_longer_than_opencv_warps_stays() -> None:
    image = np.zeros((33_000, 2, 3), np.uint8)
    polygon = np.array([[0, 0], [1, 0], [1, 9]], np.float32)
    turned, moved = rotate(image, [polygon], 5.0)
    assert turned is image
    assert np.array_equal(moved[0], polygon)
    assert rotate(image[:32_766], [polygon], 5.0)[0].shape == (32_766, 2, 3)


def test_a_turn_by_nothing_changes_nothing() -> None:
    image = np.random.default_rng(1).integers(0, 256, (9, 14, 3)).astype(np.uint8)
    turned, moved = rotate(image, [box(1, 2, 5, 6)], 0.0)
    assert np.array_equal(turned, image)
    assert np.array_equal(moved[0], box(1, 2, 5, 6))


@pytest.mark.parametrize("degrees", [-10, -3.3, 4, 10, 45])
def test_a_turn_keeps_the_middle_and_lengths(degrees: float) -> None:
    polygon = box(20, 30, 80, 50)
    _, moved = rotate(np.zeros((100, 120, 3), np.uint8), [polygon, box(60, 50, 60, 50)], degrees)
    assert moved[1] == pytest.approx(box(60, 50, 60, 50))
    edges = [np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1) for corners in (polygon, moved[0])]
    assert edges[0] == pytest.approx(edges[1], rel=1e-5)
    slope = moved[0][1] - moved[0][0]
    assert math.degrees(math.atan2(slope[1], slope[0])) == pytest.approx(degrees, abs=1e-4)


def test_scale_by_hand() -> None:
    image = np.zeros((10, 21, 3), np.uint8)
    resized, moved = scale(image, [box(2, 4, 10, 8)], 1.5)
    assert resized.shape == (15, 32, 3)  # 31.5, half to even
    assert moved[0] == pytest.approx(box(2, 4, 10, 8) * np.array([32 / 21, 1.5]), rel=1e-6)
    assert scale(image, [], 0.01)[0].shape == (1, 1, 3)


def test_scale_stays_within_bounds() -> None:
    image = np.zeros((5000, 5000, 3), np.uint8)
    resized, _ = scale(image, [], 3.0)
    assert resized.shape[0] * resized.shape[1] <= (1 << 25) * 1.01
    assert resized.shape[0] > 5000


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_polygons_follow_the_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = [box(40, 40, 110, 70), box(60, 90, 130, 115)]
    image, moved = geometric(page(160, 180, polygons), polygons, IaaAugment().augmenters, rng)
    assert agreement(image, moved) > 0.9


def test_augmenters_are_applied_in_order_and_by_chance() -> None:
    image, polygons = np.zeros((10, 20, 3), np.uint8), [box(1, 1, 4, 4)]
    rng = np.random.default_rng(0)
    assert geometric(image, polygons, [("Fliplr", (0.0,))], rng)[1][0].tolist() == polygons[0].tolist()
    assert geometric(image, polygons, [("Fliplr", (1.0,))], rng)[1][0][0].tolist() == [19, 1]
    assert geometric(image, polygons, [("Flipud", (1.0,))], rng)[1][0][0].tolist() == [1, 9]
    twice = geometric(image, polygons, [("Resize", (2.0, 2.0)), ("Fliplr", (1.0,))], rng)
    assert twice[1][0][0].tolist() == [38, 2]
    mirrored = [geometric(image, polygons, [("Fliplr", (0.5,))], rng)[1][0][0, 0] == 19 for _ in range(200)]
    assert 70 < sum(mirrored) < 130
    with pytest.raises(ValueError, match="unknown"):
        geometric(image, polygons, [("Shear", (1.0,))], rng)


def test_scale_factors_cover_their_range_evenly() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((100, 100, 3), np.uint8)
    sides = [geometric(image, [], [("Resize", (0.5, 3.0))], rng)[0].shape[0] for _ in range(300)]
    assert min(sides) < 65
    assert max(sides) > 285
    assert np.mean(sides) == pytest.approx(175, abs=15)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_a_window_cuts_no_text_and_holds_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [
        box(left, top, left + w, top + h)
        for left, top, w, h in rng.integers(0, (150, 80, 60, 25), (4, 4)) + np.array([0, 0, 8, 8])
    ]
    left, top, width, height = crop_window((120, 220), texts, 50, 0.1, rng)
    assert 0 <= left < left + width <= 220
    assert 0 <= top < top + height <= 120
    if (left, top, width, height) == (0, 0, 220, 120):
        return
    held = 0
    for text in texts:
        low, high = np.rint(text.min(axis=0)), np.rint(text.max(axis=0))
        for axis, (first, last) in enumerate(((left, left + width), (top, top + height))):
            assert not low[axis] < first < high[axis]
            assert not low[axis] < last < high[axis]
        held += bool((low >= (left, top)).all() and (high <= (left + width, top + height)).all())
    assert width >= 22
    assert height >= 12


def test_windows_reach_all_margins() -> None:
    # PaddleOCR's never goes beyond the last text: its list of runs lacks the last.
    text = box(40, 40, 60, 60)
    rng = np.random.default_rng(0)
    windows = [crop_window((100, 100), [text], 50, 0.1, rng) for _ in range(400)]
    assert min(window[0] for window in windows) < 5
    assert max(window[0] + window[2] for window in windows) > 94
    assert max(window[1] + window[3] for window in windows) > 94
    assert len(set(windows)) > 300
    assert all(window[0] <= 40 and window[0] + window[2] >= 60 for window in windows if window[2] > 40)


def test_without_room_or_text_the_window_is_the_image() -> None:
    rng = np.random.default_rng(0)
    assert crop_window((50, 80), [box(-5, -5, 200, 200)], 50, 0.1, rng) == (0, 0, 80, 50)
    assert crop_window((50, 80), [], 50, 0.1, rng) == (0, 0, 80, 50)
    assert crop_window((1, 1), [box(0, 0, 1, 1)], 5, 0.1, rng) == (0, 0, 1, 1)


def test_placing_a_window_by_hand() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:60, 40:120] = 200
    texts = [box(50, 30, 70, 40), box(150, 70, 170, 80)]
    placed, moved, kept = place_window(image, texts, (40, 20, 80, 40), (160, 160), keep_ratio=True)
    assert placed.shape == (160, 160, 3)
    assert (placed[:80] == 200).all()
    assert not placed[80:].any()
    assert kept == [0]
    assert moved[0].tolist() == box(20, 20, 60, 40).tolist()
    placed, moved, kept = place_window(image, texts, (40, 20, 80, 40), (160, 160), keep_ratio=False)
    assert (placed == 200).all()
    assert moved[0].tolist() == box(20, 40, 60, 80).tolist()


@pytest.mark.parametrize("keep_ratio", [True, False])
def test_placed_texts_follow_the_image(keep_ratio: bool) -> None:
    texts = [box(30, 40, 100, 70), box(60, 90, 130, 115)]
    image, moved, kept = place_window(page(160, 180, texts), texts, (20, 30, 120, 95), (192, 128), keep_ratio)
    assert image.shape == (128, 192, 3)
    assert kept == [0, 1]
    assert agreement(image, moved) > 0.93


def test_nothing_is_changed_in_place() -> None:
    texts = [box(30, 40, 100, 70)]
    image = page(160, 180, texts)
    copies = image.copy(), texts[0].copy()
    rng = np.random.default_rng(0)
    geometric(image, texts, IaaAugment().augmenters, rng)
    place_window(image, texts, crop_window((160, 180), texts, 5, 0.1, rng), (64, 64), True)
    assert np.array_equal(image, copies[0])
    assert np.array_equal(texts[0], copies[1])
