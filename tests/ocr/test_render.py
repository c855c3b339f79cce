"""Rendered text: reproducible, labelled rightly, and readable by the models that it stands in data for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from ocrslim.errors import DataError
from ocrslim.ocr.corpus import common_characters
from ocrslim.ocr.render import LONGEST_LINE, PAGE_SIDES, render_lines, render_pages

BUILT_IN = ["uni", "sans", "italic"]


def _digest(images: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def lines() -> list[tuple[np.ndarray, str]]:
    return render_lines(common_characters(), 120, seed=0, fonts=BUILT_IN)


@pytest.fixture(scope="module")
def pages() -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
    return render_pages(12, seed=0, fonts=BUILT_IN)


def test_lines_are_bgr_images_with_texts_of_the_dictionary(lines: list[tuple[np.ndarray, str]]) -> None:
    known = set(common_characters()) | {" "}
    assert len(lines) == 120
    for image, text in lines:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert 8 <= image.shape[0] <= 120
        assert 1 <= len(text) <= LONGEST_LINE
        assert set(text) <= known


def test_lines_are_a_function_of_the_seed_and_their_place() -> None:
    first, again, more, other = (
        render_lines(common_characters(), n, seed, BUILT_IN) for n, seed in ((8, 5), (8, 5), (12, 5), (8, 6))
    )
    assert _digest([image for image, _ in first]) == _digest([image for image, _ in again])
    assert _digest([image for image, _ in first]) == _digest([image for image, _ in more[:8]])
    assert [text for _, text in first] == [text for _, text in more[:8]]
    assert [text for _, text in first] != [text for _, text in other]


def test_ink_stands_out(lines: list[tuple[np.ndarray, str]]) -> None:
    spans = [float(np.ptp(np.percentile(image.mean(axis=2), (1, 99)))) for image, _ in lines]
    assert min(spans) > 12
    assert np.median(spans) > 100


def test_longer_texts_are_wider(lines: list[tuple[np.ndarray, str]]) -> None:
    ratios = np.array([image.shape[1] / image.shape[0] for image, _ in lines])
    lengths = np.array([len(text) for _, text in lines])
    assert np.corrcoef(ratios, lengths)[0, 1] > 0.8


def test_lines_look_different(lines: list[tuple[np.ndarray, str]]) -> None:
    grounds = np.array([np.median(image.reshape(-1, 3), axis=0) for image, _ in lines])
    assert (grounds.mean(axis=1) > 180).mean() > 0.4  # paper
    assert (grounds.mean(axis=1) < 120).mean() > 0.1  # dark grounds
    assert len({image.shape for image, _ in lines}) > 100


def test_entries_that_cannot_be_drawn_are_left_out() -> None:
    rendered = render_lines(["\u3000", "\ue123", "ab", "א", "7"], 10, 0, BUILT_IN)
    assert {one for _, text in rendered for one in text} - {" "} == {"7"}


@pytest.mark.parametrize("characters", [(), ("\u3000", "\ue123")])
def test_nothing_to_draw_is_an_error(characters: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="--data"):
        render_lines(characters, 3, 0, BUILT_IN)


def test_no_fonts_and_wrong_fonts_are_errors() -> None:
    with pytest.raises(DataError, match="no fonts"):
        render_pages(1, 0, fonts=[])
    with pytest.raises(DataError, match=r"missing\.ttf"):
        render_lines("abc", 1, 0, [Path("/missing.ttf")])


def test_an_opencv_without_fonts_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "FontFace")
    with pytest.raises(DataError, match="opencv-python-headless>=5"):
        render_lines("abc", 1, 0)


def test_pages_have_boxes_with_texts_inside_the_image(pages: list[tuple[np.ndarray, np.ndarray, list[str]]]) -> None:
    assert len(pages) == 12
    for image, boxes, texts in pages:
        height, width = image.shape[:2]
        assert PAGE_SIDES[0] <= min(height, width) <= max(height, width) <= PAGE_SIDES[1]
        assert boxes.dtype == np.float32
        assert boxes.shape == (len(texts), 4, 2)
        assert boxes.min() >= -1.0
        assert (boxes <= np.array([width + 1, height + 1])).all()
    assert sum(len(texts) for *_, texts in pages) > 120
    assert all(text for *_, texts in pages for text in texts)


def test_boxes_go_clockwise_from_the_upper_left(pages: list[tuple[np.ndarray, np.ndarray, list[str]]]) -> None:
    for _, boxes, _ in pages:
        for box in boxes:
            assert cv2.contourArea(box, oriented=True) > 0
            assert box[:, 0].argmin() in (0, 3)
            assert box[0, 1] < box[3, 1]
            assert box[1, 1] < box[2, 1]


def test_boxes_hold_the_ink(pages: list[tuple[np.ndarray, np.ndarray, list[str]]]) -> None:
    """Edges within the boxes are many times those outside."""
    inside, outside = [], []
    for image, boxes, _ in pages:
        mask = np.zeros(image.shape[:2], np.uint8)
        for box in boxes:
            cv2.fillPoly(mask, [np.rint(box).astype(np.int32)], 1)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
        edges = np.abs(grey - cv2.blur(grey, (5, 5)))
        inside.append(edges[mask == 1].mean())
        outside.append(edges[mask == 0].mean())
    assert np.mean(inside) > 4 * np.mean(outside)


def test_lines_of_a_page_do_not_overlap(pages: list[tuple[np.ndarray, np.ndarray, list[str]]]) -> None:
    for image, boxes, _ in pages:
        count = np.zeros(image.shape[:2], np.uint8)
        for box in boxes:
            one = np.zeros_like(count)
            cv2.fillConvexPoly(one, np.rint(box).astype(np.int32), 1)
            count += one
        assert (count > 1).sum() <= 0.02 * max(1, (count > 0).sum())


def test_pages_are_a_function_of_the_seed_and_their_place() -> None:
    first, more, other = (render_pages(n, seed, fonts=BUILT_IN) for n, seed in ((2, 3), (3, 3), (2, 4)))
    assert _digest([image for image, *_ in first]) == _digest([image for image, *_ in more[:2]])
    assert np.array_equal(first[1][1], more[1][1])
    assert first[0][2] == more[0][2]
    assert _digest([image for image, *_ in first]) != _digest([image for image, *_ in other])


def test_pages_are_written_with_the_characters_given() -> None:
    texts = [text for *_, texts in render_pages(3, 0, "数字0123456789", BUILT_IN) for text in texts]
    assert texts
    assert {one for text in texts for one in text} <= set("数字0123456789 ")


def test_a_recogniser_reads_the_lines(zoo: Callable[[str], Path], lines: list[tuple[np.ndarray, str]]) -> None:
    session = _session(zoo("PP-OCRv4_mobile_rec"))
    entries = session.get_modelmeta().custom_metadata_map["character"].removesuffix("\n").split("\n")
    characters = ["", *entries, " "]
    right = 0
    for image, text in lines[:60]:
        width = int(np.ceil(48 * image.shape[1] / image.shape[0]))
        padded = np.zeros((1, 3, 48, max(320, width)), np.float32)
        padded[0, :, :, :width] = (cv2.resize(image, (width, 48)) / 127.5 - 1.0).transpose(2, 0, 1)
        best = session.run(None, {"x": padded})[0][0].argmax(axis=1)
        kept = [int(one) for place, one in enumerate(best) if one and (place == 0 or best[place - 1] != one)]
        read = "".join(characters[one] for one in kept)
        right += read.replace("￥", "¥").replace(" ", "") == text.replace(" ", "")
    assert right / 60 > 0.5  # meaningless text of rare characters, with noise


def test_a_detector_finds_the_lines(
    zoo: Callable[[str], Path], pages: list[tuple[np.ndarray, np.ndarray, list[str]]]
) -> None:
    session = _session(zoo("PP-OCRv3_mobile_det"))
    mean, std = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
    found, false = [], []
    for image, boxes, _ in pages[:4]:
        height, width = (side // 32 * 32 for side in image.shape[:2])
        values = (image[:height, :width].astype(np.float32) / 255 - mean) / std
        text = session.run(None, {"x": values.transpose(2, 0, 1)[None]})[0][0, 0] > 0.3
        mask = np.zeros(text.shape, np.uint8)
        for box in boxes:
            one = np.zeros_like(mask)
            cv2.fillPoly(one, [np.rint(box).astype(np.int32)], 1)
            if one.any():
                found.append(text[one == 1].mean() > 0.3)  # DB's map is of shrunk boxes
            mask |= one
        false.append(text[cv2.dilate(mask, np.ones((9, 9), np.uint8)) == 0].mean())
    assert np.mean(found) > 0.85
    assert np.mean(false) < 0.01


def test_another_process_draws_the_same() -> None:
    """Nothing depends on the hash seed, on threads or on what was drawn before: a resumed run sees the same lines."""
    code = (
        "import hashlib; from ocrslim.ocr.render import render_lines, render_pages;"
        "lines = render_lines('abc一二三0123', 6, 3, ['uni', 'sans']); pages = render_pages(1, 3, 'abc一二', ['uni']);"
        "images = [image for image, *_ in [*lines, *pages]];"
        "print(hashlib.sha256(b''.join(image.tobytes() for image in images)).hexdigest())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    }
    assert len(answers) == 1
    lines = render_lines("abc一二三0123", 6, 3, ["uni", "sans"])
    pages = render_pages(1, 3, "abc一二", ["uni"])
    assert answers == {_digest([image for image, *_ in [*lines, *pages]]) + "\n"}


def test_the_state_of_numpys_own_randomness_does_not_matter() -> None:
    np.random.seed(0)
    first = render_lines("abc", 3, 1, BUILT_IN)
    np.random.seed(1)
    assert _digest([image for image, _ in first]) == _digest(
        [image for image, _ in render_lines("abc", 3, 1, BUILT_IN)]
    )


def test_each_font_draws_its_own_lines() -> None:
    digests = {_digest([image for image, _ in render_lines("abcdef", 4, 0, [font])]) for font in BUILT_IN}
    assert len(digests) == len(BUILT_IN)


def test_none_asked_for_is_none_made() -> None:
    assert render_lines("abc", 0, 0, BUILT_IN) == []
    assert render_pages(0, 0, "abc", BUILT_IN) == []


def test_the_order_of_the_dictionary_and_repeats_do_not_break_the_texts() -> None:
    for characters in ("abc", "cba", "aabbcc"):
        texts = "".join(text for _, text in render_lines(characters, 12, 0, BUILT_IN))
        assert set(texts) - {" "} == set("abc")
