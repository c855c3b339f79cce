"""The scoring recipe by sessions that say what they are told: figures, sets, protocol, what is skipped or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ocrslim.config.profile import DetProfile, Profile, load_profile
from ocrslim.errors import DataError, InputError, ModelError
from ocrslim.evaluate import evaluate, read_page
from ocrslim.graph.importers.source import ModelSource
from ocrslim.ocr.db import DBPostProcess
from ocrslim.ocr.labels import DetSample, RecSample, Skipped, TextBox

CHARACTERS = ("a", "b", "c")
EXAMPLE = load_profile("example")


class Session:
    """An InferenceSession that answers by a function and keeps the shapes that it was asked."""

    engine = "openvino"
    version = "0"
    input_name = "x"
    threads = 1

    def __init__(self, answer: Callable[[NDArray[np.float32]], NDArray[np.float32]], width: int | None = None) -> None:
        self.input_shape: tuple[int | None, ...] = (None, 3, 48, width)
        self.shapes: list[tuple[int, ...]] = []
        self._answer = answer

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        assert x.dtype == np.float32
        self.shapes.append(x.shape)
        return self._answer(x)


def _source(task: Any, characters: tuple[str, ...] | None = CHARACTERS) -> ModelSource:
    return ModelSource(Path("fake.onnx"), "fake", task, None, characters if task == "rec" else None, "0" * 64, None)


def _reads(*texts: str) -> Session:
    """Return a recogniser that reads these texts, one call after another."""
    turn = iter(texts)

    def answer(x: NDArray[np.float32]) -> NDArray[np.float32]:
        classes = [1 + (*CHARACTERS, " ").index(character) for character in next(turn)]
        path = [item for index in classes for item in (index, 0)] or [0]
        return np.eye(5, dtype=np.float32)[path][None]

    return Session(answer)


def _sees_bright(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A detector that takes bright pixels for text."""
    return (x[:, :1] > 0).astype(np.float32) * 0.9


def _line(path: Path, width: int = 100, height: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 128, np.uint8))
    return path


@pytest.fixture
def lines(tmp_path: Path) -> list[RecSample]:
    texts = {"one": ["ab", "a b"], "two": ["c", "abc"]}
    return [
        RecSample(_line(tmp_path / name / f"{index}.png"), text, name)
        for name, of_set in texts.items()
        for index, text in enumerate(of_set)
    ]


def test_rec_figures_sets_and_protocol(lines: list[RecSample]) -> None:
    session = _reads("ab", "ab", "c", "abb")
    result = evaluate(_source("rec"), lines, profile=EXAMPLE, session=session, loose=True)
    assert result.n == 4
    assert result.metrics["accuracy"] == pytest.approx(2 / 4, abs=1e-5)
    assert result.metrics["norm_edit_distance"] == pytest.approx(1 - (1 / 3 + 1 / 3) / 4, abs=1e-5)
    assert result.metrics["loose"]["accuracy"] == pytest.approx(3 / 4, abs=1e-5)
    assert {name: figures["n"] for name, figures in result.per_set.items()} == {"one": 2, "two": 2}
    assert result.per_set["one"]["accuracy"] == pytest.approx(0.5, abs=1e-5)
    assert result.per_set["one"]["loose"]["accuracy"] == pytest.approx(1.0, abs=1e-5)
    assert result.protocol["profile"] == "example"
    assert result.protocol["ignore_space"] is False
    assert result.protocol["width"] == "dynamic"
    assert result.headline == "accuracy"


def test_json_has_the_keys_that_tools_outside_read(lines: list[RecSample]) -> None:
    skipped = [Skipped("labels.txt:7", "empty line")]
    result = evaluate(_source("rec"), lines, profile=EXAMPLE, session=_reads("", "", "", ""), skipped=skipped)
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(data) == ["task", "engine", "n", "skipped", "metrics", "per_set", "protocol", "seconds"]
    assert (data["task"], data["engine"], data["n"]) == ("rec", "openvino", 4)
    assert data["skipped"] == [{"where": "labels.txt:7", "reason": "empty line"}]
    assert set(data["metrics"]) == {"accuracy", "norm_edit_distance"}
    assert set(data["per_set"]) == {"one", "two"}
    assert data["seconds"] >= 0


def test_widths_are_dynamic_fixed_or_the_models_own(tmp_path: Path) -> None:
    samples = [RecSample(_line(tmp_path / f"{width}.png", width), "a", "s") for width in (100, 400, 5000)]

    def widths(session: Session, **options: Any) -> list[int]:
        evaluate(_source("rec"), samples, profile=EXAMPLE, session=session, **options)
        return [shape[3] for shape in session.shapes]

    assert widths(_reads("a", "a", "a")) == [320, 400, 3200]
    assert widths(_reads("a", "a", "a"), rec_width="padded") == [320, 416, 3200]
    assert widths(_reads("a", "a", "a"), rec_width="fixed") == [320, 320, 320]
    static = _reads("a", "a", "a")
    static.input_shape = (1, 3, 48, 640)
    assert widths(static) == [640, 640, 640]
    result = evaluate(_source("rec"), samples, profile=EXAMPLE, session=_reads(*"aaa"), rec_width="fixed")
    assert result.protocol["width"] == 320


def test_labels_that_paddleocr_would_drop_are_scored_and_counted(tmp_path: Path) -> None:
    path = _line(tmp_path / "a.png")
    samples = [RecSample(path, text, "s") for text in ("ab" * 13, "xyz", "a")]
    result = evaluate(_source("rec"), samples, profile=EXAMPLE, session=_reads("ab" * 13, "a", "a"))
    assert result.n == 3
    assert result.metrics["accuracy"] == pytest.approx(2 / 3, abs=1e-5)
    assert result.protocol["labels_over_25_characters"] == 1
    assert result.protocol["labels_with_characters_not_in_the_dictionary"] == 1


def test_broken_and_missing_images_are_named_and_skipped(lines: list[RecSample], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    samples = [RecSample(broken, "a", "s"), lines[0], RecSample(tmp_path / "gone.png", "a", "s")]
    told: list[tuple[int, int]] = []
    result = evaluate(
        _source("rec"),
        samples,
        profile=EXAMPLE,
        session=_reads("ab"),
        skipped=[Skipped("before", "why")],
        progress=lambda done, total: told.append((done, total)),
    )
    assert result.n == 1
    assert [item.where for item in result.skipped] == ["before", str(broken), str(tmp_path / "gone.png")]
    assert all(item.reason for item in result.skipped)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_cannot_be_scored_is_refused(lines: list[RecSample], tmp_path: Path) -> None:
    rec, det = _source("rec"), _source("det")
    page = DetSample(lines[0].image, (), "s")
    with pytest.raises(DataError, match="no labels"):
        evaluate(rec, [RecSample(lines[0].image, None, "s")], profile=EXAMPLE, session=_reads())
    with pytest.raises(DataError, match="no labels"):
        evaluate(rec, [], profile=EXAMPLE, session=_reads())
    with pytest.raises(DataError, match="no labels"):
        evaluate(det, [page], profile=EXAMPLE, session=_reads())
    with pytest.raises(InputError, match="fake is a rec model"):
        evaluate(rec, [page], profile=EXAMPLE, session=_reads())
    with pytest.raises(InputError, match="fake is a det model"):
        evaluate(det, lines, profile=EXAMPLE, session=_reads())
    with pytest.raises(ModelError, match="no dictionary"):
        evaluate(_source("rec", None), lines, profile=EXAMPLE, session=_reads())
    with pytest.raises(DataError, match="none of 1 images can be read"):
        evaluate(rec, [RecSample(tmp_path / "gone.png", "a", "s")], profile=EXAMPLE, session=_reads())


@pytest.mark.parametrize("shape", [(1, 4, 6), (1, 5), (1, 1, 48, 320)])
def test_another_number_of_classes_is_the_models_fault(lines: list[RecSample], shape: tuple[int, ...]) -> None:
    session = Session(lambda x: np.zeros(shape, np.float32))
    with pytest.raises(ModelError, match=r"its dictionary needs \[1, T, 5\]"):
        evaluate(_source("rec"), lines, profile=EXAMPLE, session=session)


def _page(path: Path, *rectangles: tuple[int, int, int, int], size: tuple[int, int] = (736, 1472)) -> Path:
    image = np.zeros((*size, 3), np.uint8)
    for left, top, right, bottom in rectangles:
        image[top:bottom, left:right] = 255
    assert cv2.imwrite(str(path), image)
    return path


def _box(left: float, top: float, right: float, bottom: float, text: str = "x") -> TextBox:
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    return TextBox(points, text, text == "###")


def test_det_figures_sets_and_protocol(tmp_path: Path) -> None:
    # 200 x 40 bright pixels grow by 199 * 39 * 1.5 / 476 = 24.5 on each side
    first = _page(tmp_path / "a.png", (100, 100, 300, 140), (100, 400, 300, 440))
    second = _page(tmp_path / "b.png", (100, 100, 300, 140))
    grown = _box(76, 76, 324, 164)
    samples = [
        DetSample(first, (grown, _box(800, 400, 900, 450)), "one"),
        DetSample(second, (_box(0, 0, 500, 300, "###"),), "two"),
        DetSample(_page(tmp_path / "c.png"), (), "two"),
    ]
    session = Session(_sees_bright)
    result = evaluate(_source("det"), samples, profile=EXAMPLE, session=session)
    assert result.metrics == {"hmean": 0.5, "precision": 0.5, "recall": 0.5}
    assert result.per_set["one"] == {"n": 1, "hmean": 0.5, "precision": 0.5, "recall": 0.5}
    assert result.per_set["two"] == {"n": 2, "hmean": 0.0, "precision": 0.0, "recall": 0.0}
    assert result.protocol["images_without_text"] == 1
    assert result.protocol["invalid_polygons"] == 0
    assert result.protocol["unclip_ratio"] == 1.5
    assert result.headline == "hmean"
    assert session.shapes == [(1, 3, 736, 1472)] * 3
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize("size", [(368, 736), (736, 1472), (1000, 2100), (20, 30)])
def test_boxes_are_in_pixels_of_the_image_whatever_its_size(size: tuple[int, int]) -> None:
    height, width = size
    image = np.zeros((*size, 3), np.uint8)
    image[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = 255
    boxes, scores = read_page(Session(_sees_bright), DBPostProcess(EXAMPLE.det), EXAMPLE.det, image)
    assert len(boxes) == len(scores) == 1
    w, h = width / 2, height / 2
    offset = w * h * 1.5 / (2 * (w + h))
    expected = np.array([width / 4 - offset, height / 4 - offset])
    assert np.abs(boxes[0][0] - expected.clip(0)).max() <= max(2.0, 0.02 * width)


def test_a_recogniser_is_no_detector() -> None:
    session = Session(lambda x: np.zeros((1, 40, 5), np.float32))
    with pytest.raises(ModelError, match="another task"):
        read_page(session, DBPostProcess(DetProfile()), DetProfile(), np.zeros((64, 64, 3), np.uint8))


def test_a_drop_is_what_the_other_has_more_with_its_interval(lines: list[RecSample]) -> None:
    many = [RecSample(line.image, line.text, str(index)) for index in range(10) for line in lines]
    texts = [line.text or "" for line in many]
    good = evaluate(_source("rec"), many, profile=EXAMPLE, session=_reads(*texts))
    bad = evaluate(_source("rec"), many, profile=EXAMPLE, session=_reads(*texts[:30], *("" for _ in range(10))))
    drop = bad.drop_from(good)
    assert drop.mean == pytest.approx(0.25, abs=0.02)
    assert 0.1 < drop.low < 0.25 < drop.high < 0.4
    assert good.drop_from(good).high == 0.0
    fewer = evaluate(_source("rec"), many[:4], profile=EXAMPLE, session=_reads(*texts[:4]))
    with pytest.raises(ValueError, match="same images"):
        fewer.drop_from(good)


def test_the_profile_decides_the_detectors_input(tmp_path: Path) -> None:
    sample = DetSample(_page(tmp_path / "a.png", (10, 10, 60, 30), size=(300, 400)), (_box(0, 0, 70, 40),), "s")
    session = Session(_sees_bright)
    for name in ("example", "paddleocr", "rapidocr"):
        evaluate(_source("det"), [sample], profile=load_profile(name), session=session)
    custom = Profile("own", DetProfile(limit_side_len=160, limit_type="max"))
    assert evaluate(_source("det"), [sample], profile=custom, session=session).protocol["profile"] == "own"
    assert [shape[2:] for shape in session.shapes] == [(736, 992), (288, 384), (736, 992), (128, 160)]


def test_loose_figures_stand_beside_the_exact_ones_only_when_asked(lines: list[RecSample]) -> None:
    plain = evaluate(_source("rec"), lines, profile=EXAMPLE, session=_reads("ab", "ab", "c", "abc"))
    loose = evaluate(_source("rec"), lines, profile=EXAMPLE, session=_reads("ab", "ab", "c", "abc"), loose=True)
    assert "loose" not in plain.metrics
    assert "loose" not in plain.protocol
    assert not any("loose" in figures for figures in plain.per_set.values())
    assert loose.protocol["loose"] == "NFKC, case and spaces folded"
    assert {name: value for name, value in loose.metrics.items() if name != "loose"} == plain.metrics
    assert loose.metrics["loose"]["accuracy"] > loose.metrics["accuracy"]  # "a b" was read as "ab"
    assert all(set(figures["loose"]) == {"accuracy", "norm_edit_distance"} for figures in loose.per_set.values())


def test_sets_add_up_to_the_whole(tmp_path: Path) -> None:
    samples = [RecSample(_line(tmp_path / f"{index}.png"), "ab", f"set{index % 3}") for index in range(10)]
    texts = ["ab" if index % 4 else "a" for index in range(10)]
    result = evaluate(_source("rec"), samples, profile=EXAMPLE, session=_reads(*texts))
    assert list(result.per_set) == ["set0", "set1", "set2"]
    assert sum(figures["n"] for figures in result.per_set.values()) == result.n == 10
    for name in ("accuracy", "norm_edit_distance"):
        mean = sum(figures[name] * figures["n"] for figures in result.per_set.values()) / 10
        assert mean == pytest.approx(result.metrics[name], abs=1e-5)


def test_a_skipped_image_is_in_no_set(lines: list[RecSample], tmp_path: Path) -> None:
    samples = [*lines, RecSample(tmp_path / "gone.png", "a", "three")]
    result = evaluate(_source("rec"), samples, profile=EXAMPLE, session=_reads("ab", "a b", "c", "abc"))
    assert set(result.per_set) == {"one", "two"}
    assert [record.image for record in result.records] == [str(sample.image) for sample in lines]
    assert [item.where for item in result.skipped] == [str(tmp_path / "gone.png")]


def test_the_protocol_names_all_that_the_figures_depend_on(lines: list[RecSample], tmp_path: Path) -> None:
    rec = evaluate(_source("rec"), lines, profile=EXAMPLE, session=_reads("", "", "", "")).protocol
    wanted = {"profile", "engine_version", "threads", "height", "width", "mean", "std", "batch", "ignore_space"}
    assert wanted <= rec.keys()
    assert rec["batch"] == 1
    page = DetSample(_page(tmp_path / "page.png", (10, 10, 90, 40)), (_box(0, 0, 99, 50),), "s")
    det = evaluate(_source("det"), [page], profile=EXAMPLE, session=Session(_sees_bright)).protocol
    wanted = {"profile", "engine_version", "threads", "thresh", "box_thresh", "unclip_ratio", "limit_side_len"}
    assert wanted | {"limit_type", "iou_above", "ignored_texts", "ignored_cover_above", "mean", "std"} <= det.keys()
    assert det["ignored_texts"] == ["*", "###"]
    for protocol in (rec, det):
        assert json.loads(json.dumps(protocol, allow_nan=False)).keys() == protocol.keys()


def test_labels_that_cross_themselves_are_counted_as_invalid(tmp_path: Path) -> None:
    bow = TextBox(np.array([[0, 0], [50, 50], [50, 0], [0, 50]], np.float32), "x", False)
    page = DetSample(_page(tmp_path / "a.png", (100, 100, 300, 140)), (bow, _box(76, 76, 324, 164)), "s")
    result = evaluate(_source("det"), [page], profile=EXAMPLE, session=Session(_sees_bright))
    assert result.protocol["invalid_polygons"] == 1
    assert result.metrics["hmean"] == 1.0


def test_a_recogniser_that_reads_nothing_scores_nothing(lines: list[RecSample]) -> None:
    result = evaluate(_source("rec"), lines, profile=EXAMPLE, session=_reads("", "", "", ""))
    assert result.metrics["accuracy"] == 0.0
    assert result.metrics["norm_edit_distance"] == pytest.approx(0.0, abs=1e-4)


def test_one_broken_image_stops_neither_order_nor_progress(lines: list[RecSample]) -> None:
    lines[1].image.write_bytes(b"cut")
    told: list[tuple[int, int]] = []
    result = evaluate(
        _source("rec"),
        lines,
        profile=EXAMPLE,
        session=_reads("ab", "c", "abc"),
        progress=lambda done, total: told.append((done, total)),
    )
    assert result.metrics["accuracy"] == pytest.approx(1.0, abs=1e-5)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
