"""The comparison of decisions: what counts, and what does not pass."""

from __future__ import annotations

import numpy as np
import pytest

from ocrslim.errors import VerifyError
from ocrslim.export.verify import Verification, verify_det, verify_rec


class Fixed:
    """A session that answers with given arrays, one after the other."""

    engine, version, input_name, threads = "fixed", "1", "x", 1
    input_shape = (None, 3, None, None)

    def __init__(self, *answers: np.ndarray) -> None:
        self._answers = list(answers)

    def run(self, x: np.ndarray) -> np.ndarray:
        return self._answers.pop(0)


BATCH = np.zeros((1, 3, 48, 320), np.float32)


def classes(*chosen: int) -> np.ndarray:
    """Return ``[1, T, 5]`` probabilities with these classes on top."""
    return np.eye(5, dtype=np.float32)[list(chosen)][None]


def mask(*pixels: float) -> np.ndarray:
    return np.array(pixels, np.float32).reshape(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("ours", "theirs", "value", "passed"),
    [
        ((0, 1, 2, 3), (0, 1, 2, 3), 1.0, True),
        ((0, 1, 2, 3), (0, 1, 2, 4), 0.75, False),
        ((1,) * 99 + (2,), (1,) * 100, 0.99, True),
        ((1,) * 98 + (2, 2), (1,) * 100, 0.98, False),
    ],
)
def test_frames(ours: tuple[int, ...], theirs: tuple[int, ...], value: float, passed: bool) -> None:
    found = verify_rec(lambda batch: classes(*ours), Fixed(classes(*theirs)), [BATCH])
    assert found == Verification("frame_agreement", pytest.approx(value), 0.99, passed, len(ours), 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "value", "n"),
    [
        ((0.9, 0.9, 0.1), (0.4, 0.31, 0.2), 1.0, 2),  # probabilities may differ, decisions may not
        ((0.9, 0.9, 0.1), (0.9, 0.1, 0.1), 0.5, 2),
        ((0.9, 0.1), (0.1, 0.9), 0.0, 2),
        ((0.3, 0.9), (0.2, 0.9), 1.0, 1),  # the threshold itself is no text
        ((0.0, 0.0), (0.0, 0.0), 1.0, 0),  # neither finds text: by the probabilities
        ((0.0, 0.1), (0.2, 0.1), 0.9, 0),
    ],
)
def test_masks(ours: tuple[float, ...], theirs: tuple[float, ...], value: float, n: int) -> None:
    found = verify_det(lambda batch: mask(*ours), Fixed(mask(*theirs)), [BATCH])
    assert (found.kind, found.value, found.required, found.n) == ("mask_iou", pytest.approx(value), 0.98, n)
    assert found.passed == (value == 1.0)


def test_batches_are_pooled_not_averaged() -> None:
    answers = iter([classes(1), classes(*[1] * 99)])
    found = verify_rec(lambda batch: next(answers), Fixed(classes(2), classes(*[1] * 99)), [BATCH, BATCH])
    assert (found.value, found.n) == (pytest.approx(0.99), 100)
    masks = iter([mask(0.9), mask(*[0.9] * 49)])
    pooled = verify_det(lambda batch: next(masks), Fixed(mask(0.0), mask(*[0.9] * 49)), [BATCH, BATCH])
    assert (pooled.value, pooled.n) == (pytest.approx(0.98), 50)
    assert found.images == pooled.images == 2


def test_nothing_to_compare_is_no_success() -> None:
    for verify in (verify_rec, verify_det):
        found = verify(lambda batch: batch, Fixed(), [])
        assert not found.passed
        assert (found.n, found.images) == (0, 0)


def test_a_failure_says_what_is_wrong_and_what_to_do() -> None:
    Verification("mask_iou", 0.99, 0.98, True, 10, 20).check()
    with pytest.raises(
        VerifyError, match=r"mask_iou 0\.5000 of 10 pixels.* in 20 images.*0\.98.*keep the float model$"
    ):
        Verification("mask_iou", 0.5, 0.98, False, 10, 20).check()


@pytest.mark.parametrize(
    ("kind", "images", "told"),
    [
        ("frame_agreement", 4, True),
        ("frame_agreement", 29, True),
        ("frame_agreement", 30, False),
        ("mask_iou", 4, True),
        ("mask_iou", 5, False),  # a page is hundreds of thousands of pixels
    ],
)
def test_few_images_are_told_with_the_way_to_more(kind: str, images: int, told: bool) -> None:
    with pytest.raises(VerifyError) as caught:
        Verification(kind, 0.97, 0.98, False, 160, images).check()
    text = str(caught.value)
    assert f"of 160 {'frames' if kind == 'frame_agreement' else 'pixels of text'} in {images} images" in text
    assert (f"Only {images} held-back images were compared" in text) == told
    assert ("give more --data" in text) == told
    assert "\n" not in text


def test_images_are_counted_not_batches() -> None:
    batches = [np.zeros((6, 3, 48, 320), np.float32), np.zeros((2, 3, 48, 400), np.float32)]
    same = np.zeros((6, 40, 5), np.float32), np.zeros((2, 50, 5), np.float32)
    answers = iter(same)
    found = verify_rec(lambda batch: next(answers), Fixed(*same), batches)
    assert (found.images, found.n) == (8, 6 * 40 + 2 * 50)
