"""Boxes and texts as one score: each rule of the metric on boxes made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.ocr.labels import TextBox
from ocrslim.ocr.metrics.detection import DetectionMetric
from ocrslim.ocr.metrics.end_to_end import EndToEndMetric

A, B = (0, 0, 100, 20), (0, 50, 100, 70)
BOW_TIE = np.array([[0, 0], [10, 10], [10, 0], [0, 10]], np.float32)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def _label(place: tuple[float, float, float, float], text: str) -> TextBox:
    return TextBox(_box(*place), text, text in ("###", "*"))


# read: (place, text); labelled: (place, text) -> matched, matched loosely, labelled, detected
TABLE = {
    "nothing at all": ([], [], (0, 0, 0, 0)),
    "nothing read": ([], [(A, "x")], (0, 0, 1, 0)),
    "nothing labelled": ([(A, "x")], [], (0, 0, 0, 1)),
    "right": ([(A, "x")], [(A, "x")], (1, 1, 1, 1)),
    "right place, wrong text": ([(A, "y")], [(A, "x")], (0, 0, 1, 1)),
    "right text, wrong place": ([(B, "x")], [(A, "x")], (0, 0, 1, 1)),
    "other case": ([(A, "Total")], [(A, "TOTAL")], (0, 1, 1, 1)),
    "other spaces": ([(A, "Tax id")], [(A, "Taxid")], (0, 1, 1, 1)),
    "full width": ([(A, "（１）")], [(A, "(1)")], (0, 1, 1, 1)),
    "a letter too many": ([(A, "xx")], [(A, "x")], (0, 0, 1, 1)),
    "texts swapped": ([(A, "b"), (B, "a")], [(A, "a"), (B, "b")], (0, 0, 2, 2)),
    "IoU of exactly a half": ([((0, 0, 100, 10), "x")], [(A, "x")], (0, 0, 1, 1)),
    "IoU just above a half": ([((0, 0, 100, 11), "x")], [(A, "x")], (1, 1, 1, 1)),
    "two of one label": ([(A, "x"), (A, "x")], [(A, "x")], (1, 1, 1, 2)),
    "one of two labels": ([(A, "x")], [(A, "x"), (A, "x")], (1, 1, 2, 1)),
    "wrong text first, right one over it": ([(A, "y"), (A, "x")], [(A, "x")], (1, 1, 1, 2)),
    "ignored label, read": ([(A, "x")], [(A, "###")], (0, 0, 0, 0)),
    "ignored label, its very mark read": ([(A, "*")], [(A, "*")], (0, 0, 0, 0)),
    "ignored label, missed": ([], [(A, "###")], (0, 0, 0, 0)),
    "label without a text, read": ([(A, "x")], [(A, "")], (0, 0, 0, 0)),
    "ignored goes before matching": ([(A, "x")], [(A, "x"), (A, "###")], (0, 0, 1, 0)),
    "half within the ignored": ([(A, "x")], [((0, 0, 50, 20), "###")], (0, 0, 0, 1)),
    "a label that folds to nothing": ([(A, " ")], [(A, "  ")], (0, 1, 1, 1)),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_rules(name: str) -> None:
    read, labelled, expected = TABLE[name]
    metric = EndToEndMetric()
    boxes, texts = [_box(*place) for place, _ in read], [text for _, text in read]
    metric.update(boxes, texts, [_label(*label) for label in labelled])
    (exact,), (loose,) = metric.records, metric.loose_records
    assert (exact.matched, loose.matched, exact.labelled, exact.detected) == expected
    assert (loose.labelled, loose.detected) == (exact.labelled, exact.detected)


def test_invalid_polygons_are_left_out_and_counted() -> None:
    metric = EndToEndMetric()
    metric.update([BOW_TIE, _box(*A)], ["x", "x"], [_label(A, "x"), TextBox(BOW_TIE, "x")])
    record = metric.records[0]
    assert (record.matched, record.labelled, record.detected, record.invalid) == (1, 1, 1, 2)


def test_labels_without_a_text_are_counted_apart_from_those_marked_ignored() -> None:
    metric = EndToEndMetric()
    metric.update([], [], [_label(A, ""), _label(B, "###")])
    assert metric.untold == 1


def test_images_are_summed_before_they_are_divided() -> None:
    metric = EndToEndMetric()
    metric.update([_box(*A)], ["x"], [_label(A, "x")], "1.png", "s")
    metric.update([_box(*A)] * 3, ["y"] * 3, [_label(A, "x"), _label(B, "X")], "2.png", "s")
    metric.update([_box(*B)], ["x"], [_label(B, "X")], "3.png", "s")
    assert metric.compute() == {"hmean": 2 * 0.2 * 0.25 / 0.45, "precision": 0.2, "recall": 0.25}
    assert metric.compute_loose()["recall"] == pytest.approx(2 / 4)
    assert [record.image for record in metric.records] == ["1.png", "2.png", "3.png"]


def test_no_image_is_0() -> None:
    assert EndToEndMetric().compute() == {"hmean": 0.0, "precision": 0.0, "recall": 0.0}


def test_reset_forgets() -> None:
    metric = EndToEndMetric()
    metric.update([_box(*A)], ["x"], [_label(A, "")])
    metric.reset()
    assert (metric.records, metric.loose_records, metric.untold) == ([], [], 0)


def test_a_baseline_of_the_same_images_gives_an_interval() -> None:
    good, bad = EndToEndMetric(), EndToEndMetric()
    for index in range(4):
        good.update([_box(*A)], ["x"], [_label(A, "x")], f"{index}.png")
        bad.update([_box(*A)], ["y"], [_label(A, "x")], f"{index}.png")
    found = good.compute(bad)
    assert (found["hmean_difference"], found["hmean_difference_low"]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="the same images"):
        good.compute(EndToEndMetric())


def test_a_text_for_each_box() -> None:
    with pytest.raises(ValueError, match="shorter"):
        EndToEndMetric().update([_box(*A), _box(*B)], ["x"], [])


places = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda at: (*at, at[0] + 20, at[1] + 10))
texts = st.sampled_from(["a", "A", "b"])


@given(st.lists(st.tuples(places, texts), max_size=6), st.lists(st.tuples(places, texts), max_size=6))
def test_a_text_can_only_cost(
    read: list[tuple[tuple[int, int, int, int], str]], labelled: list[tuple[tuple[int, int, int, int], str]]
) -> None:
    metric, boxes_only = EndToEndMetric(), DetectionMetric()
    boxes, truth = [_box(*place) for place, _ in read], [_label(*label) for label in labelled]
    metric.update(boxes, [text for _, text in read], truth)
    boxes_only.update(boxes, truth)
    exact, plain = metric.records[0], boxes_only.records[0]
    assert (exact.labelled, exact.detected) == (plain.labelled, plain.detected)
    assert exact.matched <= min(exact.labelled, exact.detected)


@given(st.lists(places, max_size=6), st.lists(places, max_size=6))
def test_where_all_texts_are_the_same_it_is_detection(
    read: list[tuple[int, int, int, int]], labelled: list[tuple[int, int, int, int]]
) -> None:
    metric, boxes_only = EndToEndMetric(), DetectionMetric()
    boxes, truth = [_box(*place) for place in read], [_label(place, "x") for place in labelled]
    metric.update(boxes, ["x"] * len(boxes), truth)
    boxes_only.update(boxes, truth)
    assert metric.records == boxes_only.records
