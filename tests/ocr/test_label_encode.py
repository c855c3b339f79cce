"""Labels as numbers, by hand and by PaddleOCR's rules; what is encoded is read back by the charset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.label_encode import TextEncoder

CHARSET = Charset(["a", "b", "c", "字"])
ENCODER = TextEncoder(CHARSET, 6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", [1, 2, 3]),
        ("字 a", [4, 5, 1]),  # the space is the last class
        ("a?b", [1, 2]),  # what the dictionary lacks is left out
        ("aaaaaa", [1] * 6),
        ("aaaaaaa", None),
        ("", None),
        ("???", None),
    ],
)
def test_ctc_by_hand(text: str, expected: list[int] | None) -> None:
    found = ENCODER.ctc(text)
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 5 characters with the space: unknown is 5, begin and end 6, padding 7.
        ("ab", [6, 0, 1, 6, 7, 7]),
        (" ", [6, 4, 6, 7, 7, 7]),
        ("abca", [6, 0, 1, 2, 0, 6]),
        ("abcab", None),  # no room for begin and end
        ("?", None),
    ],
)
def test_sar_by_hand(text: str, expected: list[int] | None) -> None:
    found = ENCODER.attention(text, "SARLabelEncode")
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ab", [2, 4, 5, 3, 0, 0]), ("abc字", [2, 4, 5, 6, 7, 3]), ("abcab", None)],
)
def test_nrtr_by_hand(text: str, expected: list[int] | None) -> None:
    found = ENCODER.attention(text, "NRTRLabelEncode")
    assert (None if found is None else found.tolist()) == expected


def test_the_first_of_equal_entries_is_taken() -> None:
    assert TextEncoder(Charset(["a", "b", "a"]), 5).ctc("aba") == pytest.approx([1, 2, 1])
    assert TextEncoder(Charset(["a", " "]), 5).ctc(" ") == pytest.approx([2])


@given(st.text("abc字 ", min_size=1, max_size=6))
def test_what_is_encoded_is_read_back(text: str) -> None:
    numbers = ENCODER.ctc(text)
    assert numbers is not None
    frames = [frame for number in numbers for frame in (number, 0)]  # a blank parts equal neighbours
    probabilities = np.eye(len(CHARSET), dtype=np.float32)[frames]
    assert CHARSET.decode(probabilities)[0] == text


@given(st.text(max_size=10))
def test_any_text_is_encoded_or_refused(text: str) -> None:
    for found in (
        ENCODER.ctc(text),
        ENCODER.attention(text, "SARLabelEncode"),
        ENCODER.attention(text, "NRTRLabelEncode"),
    ):
        assert found is None or (found.dtype == np.int64 and len(found) <= 6 and found.min() >= 0)
