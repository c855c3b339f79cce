"""RecMetric's figures, the edit distance against its definition, and what the loose reading folds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.ocr.metrics.recognition import RecognitionMetric, edit_distance, fold, normalized_distance

# read, label -> correct, distance, loosely correct, loose distance
TABLE = [
    ("word", "word", True, 0.0, True, 0.0),
    ("", "word", False, 1.0, False, 1.0),
    ("", "", True, 0.0, True, 0.0),
    ("word", "", False, 1.0, False, 1.0),
    ("Word", "word", False, 0.25, True, 0.0),
    ("w ord", "word", False, 0.2, True, 0.0),
    ("ｗｏｒｄ", "word", False, 1.0, True, 0.0),
    ("STRASSE", "straße", False, 1.0, True, 0.0),
    ("第6节", "第6 节", False, 0.25, True, 0.0),
    ("a,b", "a，b", False, 1 / 3, True, 0.0),
    ("wort", "word", False, 0.25, False, 0.25),
    ("中國", "中国", False, 0.5, False, 0.5),
]


@pytest.mark.parametrize(("text", "label", "correct", "distance", "loose_correct", "loose_distance"), TABLE)
def test_edge_cases(
    text: str, label: str, correct: bool, distance: float, loose_correct: bool, loose_distance: float
) -> None:
    metric = RecognitionMetric()
    metric.update(text, label, "a.png", "set")
    record = metric.records[0]
    assert (record.text, record.label, record.image, record.set_name) == (text, label, "a.png", "set")
    assert (record.correct, record.loose_correct) == (correct, loose_correct)
    assert (record.distance, record.loose_distance) == pytest.approx((distance, loose_distance))


def test_figures_have_paddleocrs_denominator() -> None:
    metric = RecognitionMetric()
    for text in ("word", "wort", "word"):
        metric.update(text, "word")
    assert metric.compute() == {
        "accuracy": pytest.approx(2 / (3 + 1e-5), abs=1e-12),
        "norm_edit_distance": pytest.approx(1 - 0.25 / (3 + 1e-5), abs=1e-12),
    }


def test_no_image_is_no_division_by_nought() -> None:
    assert RecognitionMetric().compute() == {"accuracy": 0.0, "norm_edit_distance": 1.0}


def test_spaces_may_be_left_out_of_the_exact_figures() -> None:
    strict, lenient = RecognitionMetric(), RecognitionMetric(ignore_space=True)
    for metric in (strict, lenient):
        metric.update("a b", "ab")
        metric.update("A b", "ab")
        metric.update("a\u3000b", "ab")
    assert [record.correct for record in strict.records] == [False, False, False]
    assert [record.correct for record in lenient.records] == [True, False, False]


def test_reset_forgets() -> None:
    metric = RecognitionMetric()
    metric.update("a", "a")
    metric.reset()
    assert metric.records == []


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("saturday", "sunday", 3),
        ("ab", "ba", 2),
        ("a" * 200, "a" * 199 + "b", 1),
        ("😀é", "😀e", 1),
    ],
)
def test_known_edit_distances(a: str, b: str, edits: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == edits


def _table(a: str, b: str) -> int:
    """Wagner and Fischer's table (1974): the definition."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        above, row = row, [i]
        for j, right in enumerate(b, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right)))
    return row[-1]


@given(st.text("abc", max_size=90), st.text("abc", max_size=90))
def test_edit_distance_is_that_of_the_table(a: str, b: str) -> None:
    assert edit_distance(a, b) == _table(a, b)


@given(st.text(max_size=20), st.text(max_size=20))
def test_normalised_distances_are_shares(a: str, b: str) -> None:
    distance = normalized_distance(a, b)
    assert 0.0 <= distance <= 1.0
    assert (distance == 0.0) == (a == b)


@given(st.text(max_size=20))
def test_folding_takes_case_width_and_all_spaces(text: str) -> None:
    folded = fold(text)
    assert not any(character.isspace() for character in folded)
    assert fold(f" {text}\t\u3000") == folded
    if text.isascii():
        assert fold(text.upper()) == folded


def test_compute_gives_the_difference_to_a_baseline() -> None:
    ours, theirs = RecognitionMetric(), RecognitionMetric()
    for index in range(50):
        ours.update("word", "word", image=str(index))
        theirs.update("word" if index % 5 else "wort", "word", image=str(index))
    figures = ours.compute(theirs)
    assert figures["accuracy_difference"] == pytest.approx(0.2, abs=1e-6)
    assert 0.05 < figures["accuracy_difference_low"] < 0.2 < figures["accuracy_difference_high"] < 0.35
    assert figures["norm_edit_distance_difference"] == pytest.approx(0.05, abs=1e-6)
    assert "accuracy_difference" not in ours.compute()
