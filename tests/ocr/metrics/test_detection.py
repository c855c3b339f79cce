"""DetMetric's rules, one by one, on boxes whose overlaps are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrslim.ocr.labels import TextBox
from ocrslim.ocr.metrics.detection import DetectionMetric, DetRecord, hmean, precision, recall


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def _label(left: float, top: float, right: float, bottom: float, ignore: bool = False) -> TextBox:
    return TextBox(_box(left, top, right, bottom), "###" if ignore else "x", ignore)


A, B = (0, 0, 100, 20), (0, 50, 100, 70)
BOW_TIE = np.array([[0, 0], [10, 10], [10, 0], [0, 10]], np.float32)
FLAT = _box(5, 5, 50, 5)


# what was detected, what is labelled -> matched, labelled, detected
TABLE = {
    "nothing at all": ([], [], (0, 0, 0)),
    "nothing detected": ([], [_label(*A)], (0, 1, 0)),
    "nothing labelled": ([_box(*A)], [], (0, 0, 1)),
    "the same box": ([_box(*A)], [_label(*A)], (1, 1, 1)),
    "the same box, other way round": ([_box(*A)[::-1].copy()], [_label(*A)], (1, 1, 1)),
    "two of two, crossed": ([_box(*B), _box(*A)], [_label(*A), _label(*B)], (2, 2, 2)),
    "IoU of exactly a half": ([_box(0, 0, 100, 10)], [_label(*A)], (0, 1, 1)),
    "IoU just above a half": ([_box(0, 0, 100, 11)], [_label(*A)], (1, 1, 1)),
    "two detections of one label": ([_box(*A), _box(*A)], [_label(*A)], (1, 1, 2)),
    "one detection of two labels": ([_box(*A)], [_label(*A), _label(*A)], (1, 2, 1)),
    "one line for two words": ([_box(0, 0, 100, 20)], [_label(0, 0, 49, 20), _label(51, 0, 100, 20)], (0, 2, 1)),
    "first detection wins, not the best": (
        [_box(0, 0, 100, 11), _box(*A)],
        [_label(*A), _label(0, 0, 100, 9)],
        (1, 2, 2),
    ),
    "ignored label, detected": ([_box(*A)], [_label(*A, ignore=True)], (0, 0, 0)),
    "ignored label, missed": ([], [_label(*A, ignore=True)], (0, 0, 0)),
    "half within the ignored": ([_box(0, 0, 100, 20)], [_label(0, 0, 50, 20, ignore=True)], (0, 0, 1)),
    "just over half within": ([_box(0, 0, 100, 20)], [_label(0, 0, 51, 20, ignore=True)], (0, 0, 0)),
    "share of its own area, not IoU": ([_box(0, 0, 10, 10)], [_label(0, 0, 500, 500, ignore=True)], (0, 0, 0)),
    "two ignored do not add up": (
        [_box(0, 0, 100, 20)],
        [_label(0, 0, 40, 20, ignore=True), _label(60, 0, 100, 20, ignore=True)],
        (0, 0, 1),
    ),
    "ignored goes before matching": ([_box(*A)], [_label(*A), _label(*A, ignore=True)], (0, 1, 0)),
    "bow tie detected": ([BOW_TIE, _box(*A)], [_label(*A)], (1, 1, 1)),
    "flat box detected": ([FLAT], [_label(*A)], (0, 1, 0)),
    "bow tie labelled": ([_box(*A)], [_label(*A), TextBox(BOW_TIE, "x")], (1, 1, 1)),
    "flat box labelled": ([_box(*A)], [_label(*A), TextBox(FLAT, "x")], (1, 1, 1)),
    "bow tie ignored": ([_box(*A)], [TextBox(BOW_TIE, "*", ignore=True)], (0, 0, 1)),
}


@pytest.mark.parametrize("case", TABLE)
def test_edge_cases(case: str) -> None:
    found, labelled, expected = TABLE[case]
    metric = DetectionMetric()
    metric.update(found, labelled)
    record = metric.records[0]
    assert (record.matched, record.labelled, record.detected) == expected


def test_polygons_left_out_are_counted() -> None:
    metric = DetectionMetric()
    metric.update([BOW_TIE, FLAT, _box(*A)], [TextBox(BOW_TIE, "x"), _label(*A)])
    assert metric.records[0].invalid == 3


def test_figures_pool_the_counts_of_all_images() -> None:
    metric = DetectionMetric()
    metric.update([_box(*A), _box(*B), _box(200, 0, 300, 20)], [_label(*A)])  # 1 of 1 found, 3 detected
    metric.update([_box(*A)], [_label(*A), _label(*B), _label(200, 0, 300, 20)])  # 1 of 3 found, 1 detected
    figures = metric.compute()
    assert figures == pytest.approx({"precision": 2 / 4, "recall": 2 / 4, "hmean": 0.5})
    assert list(figures) == ["hmean", "precision", "recall"]
    metric.update([], [_label(*A)] * 4)
    assert metric.compute() == pytest.approx({"precision": 0.5, "recall": 0.25, "hmean": 1 / 3})


def test_no_image_is_a_score_of_nought() -> None:
    assert DetectionMetric().compute() == {"hmean": 0.0, "precision": 0.0, "recall": 0.0}


def test_reset_forgets() -> None:
    metric = DetectionMetric()
    metric.update([_box(*A)], [_label(*A)])
    metric.reset()
    assert metric.records == []


def test_the_formulas() -> None:
    records = [DetRecord("a", "s", 3, 4, 5), DetRecord("b", "s", 1, 4, 3)]
    assert precision(records) == 4 / 8
    assert recall(records) == 4 / 8
    assert hmean([DetRecord("a", "s", 1, 1, 4)]) == pytest.approx(2 * 0.25 / 1.25)


def test_polygons_of_many_corners_are_matched() -> None:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([50 + 40 * np.cos(angles), 50 + 40 * np.sin(angles)], axis=1).astype(np.float32)
    metric = DetectionMetric()
    metric.update([_box(10, 10, 90, 90)], [TextBox(circle, "round")])  # IoU is about pi / 4
    metric.update([_box(10, 10, 90, 50)], [TextBox(circle, "round")])  # half of it
    assert [record.matched for record in metric.records] == [1, 0]


def test_compute_gives_the_difference_to_a_baseline() -> None:
    ours, theirs = DetectionMetric(), DetectionMetric()
    for index in range(40):
        found = [_box(*A)] if index % 2 else []
        ours.update([_box(*A)], [_label(*A)], image=str(index))
        theirs.update(found, [_label(*A)], image=str(index))
    figures = ours.compute(theirs)
    assert figures["recall"] == 1.0
    assert figures["recall_difference"] == pytest.approx(0.5)
    assert 0.3 < figures["recall_difference_low"] < 0.5 < figures["recall_difference_high"] < 0.7
    assert figures["precision_difference"] == 0.0
    theirs.reset()
    with pytest.raises(ValueError, match="same images"):
        ours.compute(theirs)


def test_a_page_of_boxes_in_any_order_is_matched_to_the_last() -> None:
    boxes = [(x * 50.0, y * 20.0, x * 50.0 + 40, y * 20.0 + 15) for x in range(12) for y in range(12)]
    order = np.random.default_rng(0).permutation(len(boxes))
    metric = DetectionMetric()
    metric.update([_box(*boxes[index]) for index in order], [_label(*box) for box in boxes])
    assert metric.records[0] == DetRecord("", "", 144, 144, 144)


boxes = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(5, 40), st.integers(5, 40)).map(
        lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
    ),
    max_size=6,
)


def _upright_iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@settings(max_examples=60, deadline=None)
@given(found=boxes, labelled=boxes)
def test_matches_are_those_of_the_rule_written_out(
    found: list[tuple[int, int, int, int]], labelled: list[tuple[int, int, int, int]]
) -> None:
    free = list(range(len(found)))
    matched = 0
    for label in labelled:
        for index in free:
            # Exact halves are left to the table above: floats may fall to either side of them.
            if abs(_upright_iou(label, found[index]) - 0.5) < 1e-6:
                return
            if _upright_iou(label, found[index]) > 0.5:
                free.remove(index)
                matched += 1
                break
    metric = DetectionMetric()
    metric.update([_box(*box) for box in found], [_label(*box) for box in labelled])
    assert metric.records[0] == DetRecord("", "", matched, len(labelled), len(found))


@settings(max_examples=60, deadline=None)
@given(found=boxes, labelled=boxes, turn=st.integers(0, 3), flip=st.booleans())
def test_figures_do_not_depend_on_where_a_polygon_begins_or_which_way_it_goes(
    found: list[tuple[int, int, int, int]], labelled: list[tuple[int, int, int, int]], turn: int, flip: bool
) -> None:
    plain, turned = DetectionMetric(), DetectionMetric()
    polygons = [_box(*box) for box in found]
    truth = [_label(*box) for box in labelled]
    plain.update(polygons, truth)
    moved = [np.roll(box[::-1] if flip else box, turn, axis=0).copy() for box in polygons]
    turned.update(moved, truth)
    assert plain.compute() == turned.compute()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=8),
)
def test_hmean_lies_between_precision_and_recall(counts: list[tuple[int, int, int]]) -> None:
    records = [DetRecord(str(i), "s", min(c), max(c), c[2] + min(c)) for i, c in enumerate(counts)]
    p, r, h = precision(records), recall(records), hmean(records)
    assert 0.0 <= min(p, r) <= h + 1e-12
    assert h <= max(p, r) + 1e-12 <= 1.0 + 2e-12
    assert h == pytest.approx(
        2 * sum(x.matched for x in records) / max(1, sum(x.labelled + x.detected for x in records))
    )


def test_every_image_has_its_record_with_its_name() -> None:
    metric = DetectionMetric()
    metric.update([], [], "a.png", "one")
    metric.update([_box(*A)], [_label(*A)], "b.png", "two")
    assert metric.records == [DetRecord("a.png", "one", 0, 0, 0), DetRecord("b.png", "two", 1, 1, 1)]
