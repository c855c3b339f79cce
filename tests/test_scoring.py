"""Two models on the same images: the loss, its interval, and what counts where there are no labels."""

from __future__ import annotations

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
from ocrslim.ocr.labels import RecSample
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
    assert judged.drop == {"metric": "accuracy", "points": 0.0, "low": 0.0, "high": 0.0, "n": 8}
    assert judged.float_metrics == judged.int8_metrics
    assert judged.n == 8


def test_a_broken_model_loses_everything(pair: Callable[[str, bool], Pair], samples: list[RecSample]) -> None:
    both = pair("PP-OCRv6_tiny_rec", True)
    judged = judge_by_labels(both, samples, (), "labels")
    assert judged.int8_metrics["accuracy"] == 0.0
    assert judged.drop["points"] == pytest.approx(100 * judged.float_metrics["accuracy"])
    images = [sample.image for sample in samples]
    agreed = judge_by_agreement(both, images, "agreement")
    assert agreed.float_metrics["accuracy"] == pytest.approx(1.0, abs=1e-4)
    assert agreed.drop["low"] <= agreed.drop["points"] <= agreed.drop["high"]
    assert agreed.drop["points"] > 80.0


def test_pages_without_labels(pair: Callable[[str, bool], Pair]) -> None:
    images = [image for image, *_ in render_pages(2, 0, fonts=FONTS)]
    same = judge_by_agreement(pair("PP-OCRv6_tiny_det", False), images, "agreement")
    assert same.float_metrics["hmean"] == pytest.approx(1.0)
    assert same.drop["points"] == 0.0
    broken = judge_by_agreement(pair("PP-OCRv6_tiny_det", True), images, "agreement")
    assert broken.int8_metrics["hmean"] == 0.0
    assert broken.drop["points"] == pytest.approx(100.0)


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
