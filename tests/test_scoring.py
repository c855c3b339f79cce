"""Two models on the same images: the loss, its interval, and what counts where there are no labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ocrslim.config.profile import load_profile
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.errors import DataError
from ocrslim.graph.importers.source import open_model
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import DetSample, RecSample, Skipped, TextBox
from ocrslim.ocr.render import render_lines, render_pages
from ocrslim.scoring import Pair, judge_by_agreement, judge_by_labels

FONTS = ["uni", "sans"]


class Broken:
    """A session that answers only blanks (rec) or no text (det)."""

    def __init__(self, session: InferenceSession) -> None:
        self.engine, self.version, self.threads = session.engine, session.version, session.threads
        self.input_name, self.input_shape = session.input_name, session.input_shape
        self._session = session

    def run(self, x: np.ndarray) -> np.ndarray:
        answer = np.zeros_like(self._session.run(x))
        if answer.ndim == 3:
            answer[..., 0] = 1.0
        return answer


@pytest.fixture
def pair(zoo: Callable[[str], Path]) -> Callable[[str, bool], Pair]:
    def make(name: str, broken: bool) -> Pair:
        source = open_model(zoo(name).parent)
        session = open_session(source.path, "openvino", 1)
        other: Any = Broken(session) if broken else session
        return Pair(source, session, other, load_profile("example"))

    return make


@pytest.fixture
def samples(tmp_path: Path) -> list[RecSample]:
    found = []
    for index, (image, text) in enumerate(render_lines("abcdefghijklmnop", 8, 0, FONTS)):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), image)
        found.append(RecSample(path, text, "set"))
    return found


def test_the_same_model_loses_nothing(pair: Callable[[str, bool], Pair], samples: list[RecSample]) -> None:
    judged = judge_by_labels(pair("PP-OCRv6_tiny_rec", False), samples, (), "labels")
    bound = 100 * 3 / 8  # no line differs: the rule of three
    told = {"metric": "accuracy", "against": "labels", "points": 0.0, "low": -bound, "high": bound, "n": 8}
    assert judged.drop == told | {"same": True}
    assert judged.float_metrics == judged.int8_metrics
    assert judged.n == 8
    assert judged.differences == {"n": 0, "worse": 0, "better": 0, "shown": []}


def test_a_broken_model_loses_everything(pair: Callable[[str, bool], Pair], samples: list[RecSample]) -> None:
    both = pair("PP-OCRv6_tiny_rec", True)
    judged = judge_by_labels(both, samples, (), "labels")
    assert judged.int8_metrics["accuracy"] == 0.0
    assert judged.drop["points"] == pytest.approx(100 * judged.float_metrics["accuracy"])
    shown = {item["image"]: item for item in judged.differences["shown"]}
    assert judged.differences["n"] == 8
    for sample in samples:
        assert shown[str(sample.image)]["label"] == sample.text
        assert shown[str(sample.image)]["int8"] == ""
    images = [sample.image for sample in samples]
    agreed = judge_by_agreement(both, images, "agreement")
    assert agreed.drop["against"] == "float"
    assert agreed.float_metrics["accuracy"] == pytest.approx(1.0, abs=1e-4)
    assert agreed.drop["low"] <= agreed.drop["points"] <= agreed.drop["high"]
    assert agreed.drop["points"] > 80.0


def test_the_larger_loss_counts_where_labels_have_another_case(
    pair: Callable[[str, bool], Pair], samples: list[RecSample]
) -> None:
    shouted = [RecSample(sample.image, sample.text.upper(), "set") for sample in samples if sample.text]
    judged = judge_by_labels(pair("PP-OCRv6_tiny_rec", True), shouted, (), "labels")
    assert judged.drop["points"] == 0.0  # neither reads a line as it is labelled
    assert judged.loose_drop is not None
    assert judged.loose_drop["points"] == pytest.approx(100 * judged.float_metrics["loose"]["accuracy"], abs=1e-3)
    assert judged.loose_drop["points"] > 50
    assert judged.worse_drop is judged.loose_drop
    as_labelled = judge_by_labels(pair("PP-OCRv6_tiny_rec", False), samples, (), "labels")
    assert as_labelled.worse_drop is as_labelled.drop


def test_pages_without_labels(pair: Callable[[str, bool], Pair]) -> None:
    images = [image for image, *_ in render_pages(2, 0, fonts=FONTS)]
    same = judge_by_agreement(pair("PP-OCRv6_tiny_det", False), images, "agreement")
    assert same.float_metrics["hmean"] == pytest.approx(1.0)
    bounds = same.drop["points"], same.drop["low"], same.drop["high"]
    assert bounds == (0.0, 0.0, 100.0)  # two pages that agree say next to nothing
    broken = judge_by_agreement(pair("PP-OCRv6_tiny_det", True), images, "agreement")
    assert broken.int8_metrics["hmean"] == 0.0
    assert broken.drop["points"] == pytest.approx(100.0)
    assert "same" not in broken.drop
    assert broken.differences["n"] == broken.differences["worse"] == 2
    item = broken.differences["shown"][0]
    assert item["image"] is None
    assert (item["float"]["both"], item["int8"]["alone"]) == ([], [])
    assert len(item["float"]["alone"]) == item["labelled"] > 0


def test_unreadable_images_are_named(
    pair: Callable[[str, bool], Pair], samples: list[RecSample], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    judged = judge_by_agreement(pair("PP-OCRv6_tiny_rec", False), [samples[0].image, bad], "agreement")
    assert judged.n == 1
    assert ["bad.png" in item.where for item in judged.skipped] == [True]
    with pytest.raises(DataError, match=r"bad\.png"):
        judge_by_agreement(pair("PP-OCRv6_tiny_rec", False), [bad], "agreement")


class Turned:
    """A session that answers rightly at first and with blanks (no text) from the n-th call on."""

    def __init__(self, session: InferenceSession, right: int) -> None:
        self.engine, self.version, self.threads = session.engine, session.version, session.threads
        self.input_name, self.input_shape = session.input_name, session.input_shape
        self._session, self._left = session, right

    def run(self, x: np.ndarray) -> np.ndarray:
        answer = self._session.run(x)
        self._left -= 1
        if self._left < 0:
            answer = np.zeros_like(answer)
            if answer.ndim == 3:
                answer[..., 0] = 1.0
        return answer


def _half(pair: Pair, right: int) -> Pair:
    compressed: Any = Turned(pair.original, right)
    return dataclasses.replace(pair, compressed=compressed)


@pytest.mark.parametrize("right", [6, 8])
def test_a_loss_is_the_share_of_lines_that_are_read_no_more(
    pair: Callable[[str, bool], Pair], samples: list[RecSample], right: int
) -> None:
    images = [sample.image for sample in samples]
    judged = judge_by_agreement(_half(pair("PP-OCRv6_tiny_rec", False), right), images, "agreement")
    lost = 100 * (8 - right) / 8
    assert judged.drop["points"] == pytest.approx(lost, abs=0.01)
    assert judged.drop["low"] <= lost + 0.01
    assert judged.drop["high"] >= lost - 0.01
    assert judged.drop.get("same", False) == (right == 8)
    assert judged.int8_metrics["accuracy"] == pytest.approx(right / 8, abs=1e-4)


def test_labels_and_agreement_may_differ(pair: Callable[[str, bool], Pair], samples: list[RecSample]) -> None:
    """Against wrong labels both read nothing right and lose nothing to each other; agreement sees the difference."""
    wrong = [dataclasses.replace(sample, text="???") for sample in samples]
    both = pair("PP-OCRv6_tiny_rec", True)
    assert judge_by_labels(both, wrong, (), "labels").drop["points"] == 0.0
    assert judge_by_agreement(both, [sample.image for sample in wrong], "agreement").drop["points"] > 80


def test_what_labels_left_out_before_is_passed_on_once(
    pair: Callable[[str, bool], Pair], samples: list[RecSample], tmp_path: Path
) -> None:
    before = Skipped("labels.txt:3", "empty line")
    gone = RecSample(tmp_path / "gone.png", "x", "set")
    judged = judge_by_labels(pair("PP-OCRv6_tiny_rec", False), [*samples, gone], [before], "labels")
    assert [item.where for item in judged.skipped] == ["labels.txt:3", str(gone.image)]
    assert judged.n == 8
    assert judged.judged_by == "labels"


def test_progress_reaches_its_end_for_both_ways_of_judging(
    pair: Callable[[str, bool], Pair], samples: list[RecSample]
) -> None:
    told: list[tuple[int, int]] = []
    both = pair("PP-OCRv6_tiny_rec", False)
    judge_by_agreement(both, [sample.image for sample in samples], "agreement", lambda *step: told.append(step))
    assert told == [(done, 8) for done in range(1, 9)]
    told.clear()
    judge_by_labels(both, samples, (), "labels", lambda *step: told.append(step))
    assert told[-1] == (8, 8)
    assert len(told) == 16  # one pass for each model


def test_arrays_are_judged_as_files_are(pair: Callable[[str, bool], Pair], samples: list[RecSample]) -> None:
    both = _half(pair("PP-OCRv6_tiny_rec", False), 5)
    files = judge_by_agreement(both, [sample.image for sample in samples], "agreement")
    both = _half(pair("PP-OCRv6_tiny_rec", False), 5)
    arrays = judge_by_agreement(both, [read_image(sample.image) for sample in samples], "agreement")
    assert files.differences["n"] == arrays.differences["n"] == 3
    # What was given as pixels has no name to be found by.
    assert [item["image"] for item in files.differences["shown"]] == [str(sample.image) for sample in samples[5:]]
    assert [item["image"] for item in arrays.differences["shown"]] == [None] * 3
    assert dataclasses.replace(files, differences=arrays.differences) == arrays


def test_pages_with_labels(pair: Callable[[str, bool], Pair], tmp_path: Path) -> None:
    pages = []
    for index, (image, boxes, texts) in enumerate(render_pages(2, 0, fonts=FONTS)):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), image)
        labels = tuple(TextBox(box, text) for box, text in zip(boxes, texts, strict=True))
        pages.append(DetSample(path, labels, "set"))
    judged = judge_by_labels(pair("PP-OCRv6_tiny_det", True), pages, (), "labels")
    assert judged.float_metrics["hmean"] > 0.5
    assert judged.int8_metrics["hmean"] == 0.0
    assert judged.drop["metric"] == "hmean"
    assert judged.drop["points"] == pytest.approx(100 * judged.float_metrics["hmean"], abs=1e-3)


def test_nothing_to_judge_by_is_told(pair: Callable[[str, bool], Pair]) -> None:
    with pytest.raises(DataError, match=r"no image can be read to judge by \(there is none\)"):
        judge_by_agreement(pair("PP-OCRv6_tiny_rec", False), [], "agreement")
