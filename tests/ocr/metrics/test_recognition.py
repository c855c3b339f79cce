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


@given(st.text("ab", max_size=12), st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


@given(st.text(max_size=30), st.integers(0, 29), st.characters())
def test_one_edit_is_a_distance_of_one(text: str, place: int, character: str) -> None:
    place = min(place, len(text))
    longer = text[:place] + character + text[place:]
    assert edit_distance(text, longer) == edit_distance(longer, text) == 1
    replaced = text[:place] + character + text[place + 1 :]
    assert edit_distance(text, replaced) == (text != replaced)


@pytest.mark.parametrize("length", [63, 64, 65, 127, 128, 129, 1000])
def test_edit_distance_beyond_the_width_of_a_machine_word(length: int) -> None:
    text = "".join(chr(0x4E00 + index) for index in range(length))
    assert edit_distance(text, text[1:] + text[0]) == 2
    assert edit_distance(text, text[::-1]) == length - length % 2
    assert edit_distance(text, "") == length


@given(st.lists(st.tuples(st.text("abc ", max_size=6), st.text("abc ", max_size=6)), min_size=1, max_size=12))
def test_figures_are_sums_over_the_images_in_any_order(pairs: list[tuple[str, str]]) -> None:
    forward, backward = RecognitionMetric(), RecognitionMetric()
    for text, label in pairs:
        forward.update(text, label)
    for text, label in reversed(pairs):
        backward.update(text, label)
    figures = forward.compute()
    assert figures == pytest.approx(backward.compute())
    n = len(pairs) + 1e-5
    assert figures["accuracy"] == pytest.approx(sum(text == label for text, label in pairs) / n)
    assert figures["norm_edit_distance"] == pytest.approx(1 - sum(normalized_distance(*pair) for pair in pairs) / n)
    loose = [record.loose_correct for record in forward.records]
    assert all(record.loose_correct >= record.correct for record in forward.records)
    assert loose == [fold(text) == fold(label) for text, label in pairs]


@given(st.text(st.characters(max_codepoint=0x7F) | st.characters(min_codepoint=0xFF01, max_codepoint=0xFF5E)))
def test_folding_once_is_enough_for_plain_and_wide_letters(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("①②", "12"),
        ("ﬁn", "fin"),
        ("㎏", "kg"),
        ("Ｎｏ．７", "no.7"),
        ("\u00a0a\u2003b\u3000c", "abc"),
        ("İ", "i̇"),
        ("…", "..."),
        ("～", "~"),
        ("𝟙", "1"),
    ],
)
def test_what_the_loose_reading_takes_for_the_same(text: str, folded: str) -> None:
    assert fold(text) == folded
