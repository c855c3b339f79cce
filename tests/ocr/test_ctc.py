"""Greedy CTC against its definition: collapse repeats, then drop blanks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.errors import ModelError
from ocrslim.ocr.ctc import BLANK, Charset

ABC = Charset(["a", "b", "c"])


@dataclass(frozen=True)
class Source:
    characters: tuple[str, ...] | None
    use_space: bool = True
    name: str = "model.onnx"


def _frames(path: list[int], classes: int = 5, probability: float = 0.9) -> np.ndarray:
    frames = np.full((len(path), classes), (1 - probability) / (classes - 1), np.float32)
    frames[np.arange(len(path)), path] = probability
    return frames


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([], ""),
        ([0, 0, 0], ""),
        ([1], "a"),
        ([1, 1, 1], "a"),
        ([1, 0, 1], "aa"),
        ([0, 1, 1, 0, 1, 2, 2, 0], "aab"),
        ([1, 2, 1, 2], "abab"),
        ([4, 1, 4, 4, 0, 4], " a  "),
        ([3, 0, 0, 3, 3, 0], "cc"),
    ],
)
def test_paths_and_their_texts(path: list[int], text: str) -> None:
    assert ABC.decode(_frames(path).reshape(-1, 5))[0] == text


@given(st.lists(st.integers(0, 4), max_size=12))
def test_decoding_is_collapse_then_drop(path: list[int]) -> None:
    expected = "".join(ABC.classes[index] for index, _ in itertools.groupby(path) if index != BLANK)
    assert ABC.decode(_frames(path).reshape(-1, 5))[0] == expected


def test_confidence_is_the_mean_of_the_frames_that_are_read() -> None:
    frames = _frames([1, 1, 0, 2])
    frames[0, 1], frames[1, 1], frames[2, 0], frames[3, 2] = 0.6, 0.99, 0.99, 0.8
    text, confidence = ABC.decode(frames)
    assert text == "ab"
    assert confidence == pytest.approx(0.7)  # of 0.6 and 0.8: the repeat and the blank do not count


def test_an_empty_text_has_no_confidence() -> None:
    assert ABC.decode(_frames([0, 0])) == ("", 0.0)


@pytest.mark.parametrize("shape", [(3, 4), (3, 6), (1, 3, 5), (5,)])
def test_another_number_of_classes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[T, 5\]"):
        ABC.decode(np.zeros(shape, np.float32))


def test_space_is_the_last_class_or_none() -> None:
    assert (len(ABC), ABC.classes[-1]) == (5, " ")
    without = Charset(["a", "b"], use_space=False)
    assert without.classes == ("", "a", "b")
    assert not without.knows("a b")
    assert ABC.knows("a b")


def test_entries_may_be_white_space_or_longer_than_a_character() -> None:
    charset = Charset(["\u3000", "ab", "\u2028"])
    assert charset.decode(_frames([1, 2, 3]))[0] == "\u3000ab\u2028"
    assert charset.knows("\u3000ba")
    assert not charset.knows("c")


def test_the_charset_of_a_model() -> None:
    assert Charset.from_source(Source(("x", "y"))).classes == ("", "x", "y", " ")
    assert Charset.from_source(Source(("x",), use_space=False)).classes == ("", "x")
    with pytest.raises(ModelError, match=r"model\.onnx: no dictionary"):
        Charset.from_source(Source(None))
