"""Which images two models answer differently, and which few of them are told of."""

from __future__ import annotations

import numpy as np

from ocrslim.ocr.labels import TextBox
from ocrslim.ocr.metrics.detection import DetectionMetric
from ocrslim.ocr.metrics.differing import SHOWN, differing
from ocrslim.ocr.metrics.recognition import RecognitionMetric


def lines(texts: list[str], labels: list[str]) -> RecognitionMetric:
    metric = RecognitionMetric()
    for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
        metric.update(text, label, f"{index}.png")
    return metric


def box(left: int, top: int) -> np.ndarray:
    return np.array([[left, top], [left + 40, top], [left + 40, top + 10], [left, top + 10]], np.float32)


def test_lines_that_are_read_otherwise() -> None:
    labels = ["same", "lost", "won", "other"]
    before = lines(["same", "lost", "w0n", "0ther"], labels)
    after = lines(["same", "l0st", "won", "othar"], labels)
    found = differing(before.records, after.records)
    assert (found["n"], found["worse"], found["better"]) == (3, 1, 1)
    assert found["shown"][0] == {"image": "1.png", "label": "lost", "float": "lost", "int8": "l0st"}
    assert {item["image"] for item in found["shown"]} == {"1.png", "2.png", "3.png"}


def test_nothing_differs() -> None:
    metric = lines(["a", "b"], ["a", "c"])
    assert differing(metric.records, metric.records) == {"n": 0, "worse": 0, "better": 0, "shown": []}


def test_of_many_the_largest_losses_and_gains_are_told() -> None:
    labels = ["abcdefghij"] * 40
    wrong = [f"{'x' * (index % 10 + 1)}{labels[0][index % 10 + 1 :]}" for index in range(20)]
    before = lines([*labels[:20], *wrong], labels)
    after = lines([*wrong, *labels[:20]], labels)
    found = differing(before.records, after.records)
    assert (found["n"], found["worse"], found["better"]) == (40, 20, 20)
    assert len(found["shown"]) == SHOWN
    lost = [item for item in found["shown"] if item["float"] == item["label"]]
    won = [item for item in found["shown"] if item["int8"] == item["label"]]
    assert len(lost) == len(won) == SHOWN // 2
    assert lost[0]["int8"] == "x" * 10  # the largest first
    assert won[0]["float"] == "x" * 10


def test_only_losses_fill_the_list() -> None:
    labels = [f"line {index}" for index in range(30)]
    found = differing(lines(labels, labels).records, lines([""] * 30, labels).records)
    assert len(found["shown"]) == SHOWN
    assert len({item["image"] for item in found["shown"]}) == SHOWN


def test_pages_on_which_one_model_finds_what_the_other_does_not() -> None:
    truth = [TextBox(box(0, 0), "a", ignore=False), TextBox(box(0, 50), "b", ignore=False)]
    before, after = DetectionMetric(), DetectionMetric()
    for metric, found in ((before, [box(0, 0), box(0, 50)]), (after, [box(1, 0), box(200, 200)])):
        metric.update(found, truth, "page.png")
        metric.update([box(0, 0)], truth, "same.png")
    told = differing(before.records, after.records)
    assert (told["n"], told["worse"], told["better"]) == (1, 1, 0)
    (item,) = told["shown"]
    assert item == {
        "image": "page.png",
        "labelled": 2,
        "float": {"matched": 2, "both": ["0,0 40,0 40,10 0,10"], "alone": ["0,50 40,50 40,60 0,60"]},
        "int8": {"matched": 1, "both": ["1,0 41,0 41,10 1,10"], "alone": ["200,200 240,200 240,210 200,210"]},
    }


def test_a_box_that_is_no_polygon_is_left_out() -> None:
    flat = np.array([[0, 0], [10, 0], [20, 0]], np.float32)
    before, after = DetectionMetric(), DetectionMetric()
    before.update([flat, box(0, 0)], [], "a")
    after.update([box(0, 0)], [], "a")
    assert differing(before.records, after.records)["n"] == 0
