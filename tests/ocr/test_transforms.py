"""The sizes that PaddleOCR's transforms give, worked out by hand, and the values that they put there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.config.profile import DetProfile, RecProfile
from ocrslim.ocr.transforms import (
    line_width,
    normalize,
    padded_width,
    rec_width,
    resize_for_det,
    resize_for_rec,
)

MIN_736 = DetProfile()
MAX_960 = DetProfile(limit_side_len=960, limit_type="max")
MIN_64 = DetProfile(limit_side_len=64)


@pytest.mark.parametrize(
    ("profile", "size", "resized"),
    [
        (MIN_736, (736, 736), (736, 736)),
        (MIN_736, (720, 1280), (736, 1312)),  # 1280 * 736 / 720 = 1308.4 -> 40.9 * 32
        (MIN_736, (1000, 1000), (992, 992)),  # large enough: rounded to 31.25 -> 31 * 32
        (MIN_736, (100, 200), (736, 1472)),
        (MIN_736, (100, 1000), (384, 4000)),  # 736 x 7360, shrunk to 400 x 4000: 12.5 goes to the even 12
        (MIN_736, (5000, 4000), (4000, 3200)),
        (MAX_960, (500, 700), (512, 704)),  # 15.6 -> 16, 21.9 -> 22
        (MAX_960, (1920, 1080), (960, 544)),  # 540 = 16.9 * 32
        (MAX_960, (960, 961), (960, 960)),
        (MAX_960, (4000, 20), (960, 32)),
        (MIN_64, (64, 64), (64, 64)),
        (MIN_64, (20, 50), (64, 160)),
        (MIN_64, (30, 30), (64, 64)),  # 60 < 64: padded to 32 x 32 first
        (MIN_64, (10, 50), (64, 96)),  # padded to 32 x 50, then 64 x 100
    ],
)
def test_det_sizes(profile: DetProfile, size: tuple[int, int], resized: tuple[int, int]) -> None:
    image, ratio_h, ratio_w = resize_for_det(np.zeros((*size, 3), np.uint8), profile)
    assert image.shape == (*resized, 3)
    padded = tuple(max(32, side) for side in size) if sum(size) < 64 else size
    assert (ratio_h, ratio_w) == (resized[0] / padded[0], resized[1] / padded[1])


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    limit=st.integers(1, 400),
    kind=st.sampled_from(["min", "max"]),
    most=st.integers(32, 500),
)
def test_det_sides_are_multiples_of_32_within_bounds(height: int, width: int, limit: int, kind: str, most: int) -> None:
    profile = DetProfile(limit_side_len=limit, limit_type="max" if kind == "max" else "min", max_side=most)
    image, _, _ = resize_for_det(np.zeros((height, width, 3), np.uint8), profile)
    assert all(side % 32 == 0 and 32 <= side <= most + 16 for side in image.shape[:2])


def test_tiny_images_are_padded_with_black_at_the_right_and_the_bottom() -> None:
    image, _, _ = resize_for_det(np.full((16, 16, 3), 255, np.uint8), DetProfile(limit_side_len=32))
    expected = np.zeros((32, 32, 3), np.uint8)
    expected[:16, :16] = 255
    np.testing.assert_array_equal(image, expected)


def test_det_pixels_are_those_of_a_bilinear_resize() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    resized, _, _ = resize_for_det(image, MIN_64)
    np.testing.assert_array_equal(resized, cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR))


def test_normalize_is_its_formula_channel_by_channel() -> None:
    image = np.array([[[0, 128, 255], [51, 102, 204]]], np.uint8)
    out = normalize(image, (0.5, 0.25, 0.0), (0.5, 1.0, 2.0))
    assert (out.shape, out.dtype) == ((3, 1, 2), np.float32)
    assert out.flags.c_contiguous
    np.testing.assert_allclose(out[0, 0], [-1.0, -0.6], atol=1e-6)
    np.testing.assert_allclose(out[1, 0], [128 / 255 - 0.25, 0.15], atol=1e-6)
    np.testing.assert_allclose(out[2, 0], [0.5, 0.4], atol=1e-6)


@pytest.mark.parametrize(
    ("ratios", "width"),
    [([], 320), ([1.0], 320), ([320 / 48], 320), ([10.0], 480), ([3.0, 10.01], 481), ([10.03], 482), ([100.0], 3200)],
)
def test_rec_width_is_the_widest_lines_within_bounds(ratios: list[float], width: int) -> None:
    assert rec_width(ratios, RecProfile()) == width
    padded = padded_width(ratios, RecProfile())
    assert width <= padded < width + 32
    assert padded % 32 == 0


@pytest.mark.parametrize(
    ("size", "width", "used", "padded"),
    [
        ((48, 100), None, 100, 320),
        ((24, 50), None, 100, 320),
        ((48, 1), None, 1, 320),
        ((31, 100), None, 155, 320),  # 154.8 is rounded up
        ((48, 400), None, 400, 400),
        ((48, 400), 320, 320, 320),
        ((48, 100), 640, 100, 640),
        ((1, 1000), None, 3200, 3200),
    ],
)
def test_rec_lines_are_squeezed_or_padded(size: tuple[int, int], width: int | None, used: int, padded: int) -> None:
    image = np.full((*size, 3), 255, np.uint8)
    out = resize_for_rec(image, RecProfile(), width)
    assert (out.shape, out.dtype) == ((3, 48, padded), np.float32)
    np.testing.assert_array_equal(out[:, :, :used], 1.0)
    np.testing.assert_array_equal(out[:, :, used:], 0.0)


def test_rec_keeps_the_order_of_channels() -> None:
    image = np.zeros((48, 48, 3), np.uint8)
    image[:] = (0, 51, 255)
    out = resize_for_rec(image, RecProfile(), 48)
    np.testing.assert_allclose(out[:, 0, 0], [-1.0, -0.6, 1.0], atol=1e-6)


def test_rec_height_and_normalisation_are_the_profiles() -> None:
    profile = RecProfile(height=32, width=100, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    out = resize_for_rec(np.full((64, 64, 3), 51, np.uint8), profile)
    assert out.shape == (3, 32, 100)
    np.testing.assert_allclose(out[:, :, :32], 0.2, atol=1e-6)


def test_the_width_of_a_line_that_is_read_alone() -> None:
    line = np.zeros((24, 200, 3), np.uint8)  # 400 pixels at a height of 48
    assert line_width(line, RecProfile(), "dynamic") is None
    assert line_width(line, RecProfile(), "padded") == 416
    assert line_width(line, RecProfile(), "fixed") == RecProfile().width


def test_an_image_is_not_enlarged_beyond_the_most_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocrslim.ocr.transforms.MAX_PIXELS", 64 * 64)
    image = np.full((80, 160, 3), 7, np.uint8)
    resized, height, width = resize_for_det(image, DetProfile(limit_side_len=960, max_side=1_000_000))
    assert resized.shape == (32, 96, 3)
    assert (height, width) == (32 / 80, 96 / 160)
