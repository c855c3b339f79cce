"""Reading with models in an engine: rules by sessions that answer as told, the whole by real models on drawn text."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import ocrslim
from ocrslim.config.profile import DetProfile, RecProfile
from ocrslim.errors import DataError, InputError, ModelError
from ocrslim.graph.importers.source import ModelSource
from ocrslim.ocr.fonts import Font
from ocrslim.reader import Detector, LineText, Reader, Recognizer, as_bgr, load_model, load_pair

CHARACTERS = ("a", "b", "c")
Image = NDArray[np.uint8]


class Session:
    """An InferenceSession that answers by a function and keeps the shapes that it was asked."""

    engine = "onnxruntime"
    version = "0"
    input_name = "x"
    threads = 1

    def __init__(self, answer: Callable[[NDArray[np.float32]], NDArray[np.float32]], *shape: int | None) -> None:
        self.input_shape: tuple[int | None, ...] = shape or (None, 3, None, None)
        self.shapes: list[tuple[int, ...]] = []
        self._answer = answer

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(x.shape)
        return self._answer(x)


def _source(task: Any) -> ModelSource:
    return ModelSource(Path("fake.onnx"), "fake", task, None, CHARACTERS if task == "rec" else None, "0" * 64, None)


def _bright(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A detector that takes bright pixels for text."""
    return (x[:, :1] > 0).astype(np.float32) * 0.9


def _tells_brightness(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A recogniser that reads a for dark lines, b for grey, c for white ones, with 0.8; nothing for black."""
    frames = np.full((len(x), 2, 5), 0.05, np.float32)
    for index, line in enumerate(x):
        value = line[0, 24, :40].max()
        frames[index, :, 0 if value < -0.9 else 1 if value < -0.2 else 2 if value < 0.5 else 3] = 0.8
    return frames


def _page() -> Image:
    """Three bright boxes: white at the right of grey, and a tall one below."""
    page = np.zeros((320, 480, 3), np.uint8)
    page[40:64, 260:420] = 255
    page[44:68, 40:200] = 170
    page[140:260, 60:84] = 150
    return page


@pytest.fixture
def reader() -> Reader:
    profile = DetProfile(limit_side_len=320, mean=(0.5,) * 3, std=(0.5,) * 3)
    det = Detector(_source("det"), Session(_bright), profile)
    return Reader(det, Recognizer(_source("rec"), Session(_tells_brightness), RecProfile(batch=2)))


def test_a_page_is_read_in_order_with_scores_and_boxes(reader: Reader) -> None:
    found = reader(_page())
    assert found.text == "b\nc\nb"
    assert (found.width, found.height, found.dropped) == (480, 320, 0)
    left, right, tall = (line.points for line in found.lines)
    assert left[:, 0].max() < right[:, 0].min()
    assert np.ptp(tall[:, 1]) > 100
    for line in found.lines:
        assert line.score == pytest.approx(0.8)
        assert 0.8 < line.box_score <= 0.9


def test_lines_come_in_batches_of_like_shape_as_wide_as_their_widest(reader: Reader) -> None:
    reader(_page())
    session = reader.recognizer.session
    assert isinstance(session, Session)
    assert [shape[0] for shape in session.shapes] == [2, 1]
    assert all(shape[1:3] == (3, 48) for shape in session.shapes)


def test_batches_are_sorted_by_width_and_answers_are_not() -> None:
    session = Session(_tells_brightness)
    recognizer = Recognizer(_source("rec"), session, RecProfile(batch=2))
    lines = [np.full((48, width, 3), value, np.uint8) for width, value in ((900, 200), (330, 60), (600, 150), (50, 0))]
    texts = recognizer.read_lines(lines)
    assert [line.text for line in texts] == ["c", "a", "b", ""]
    assert session.shapes == [(2, 3, 48, 352), (2, 3, 48, 928)]  # of 330 and 900: widths that come again
    assert texts[3] == LineText("", 0.0)
    assert recognizer.read_lines([]) == []


def test_a_model_of_one_shape_gets_that_shape() -> None:
    session = Session(_tells_brightness, 4, 3, 48, 320)
    recognizer = Recognizer(_source("rec"), session, RecProfile(batch=6))
    texts = recognizer.read_lines([np.full((48, width, 3), 200, np.uint8) for width in (100, 500, 2000, 40, 64)])
    assert [line.text for line in texts] == ["c"] * 5
    assert session.shapes == [(4, 3, 48, 320)] * 2


def test_lines_of_little_confidence_are_dropped_and_counted(reader: Reader) -> None:
    reader.drop_score = 0.81
    found = reader(_page())
    assert (found.lines, found.dropped, found.text) == ((), 3, "")


def test_a_page_without_text(reader: Reader) -> None:
    assert reader(np.zeros((64, 64, 3), np.uint8)).lines == ()


def test_another_dictionary_is_refused() -> None:
    recognizer = Recognizer(_source("rec"), Session(lambda x: np.zeros((len(x), 2, 9), np.float32)), RecProfile())
    with pytest.raises(ModelError, match=r"\[1, 2, 9\], its dictionary needs \[N, T, 5\]"):
        recognizer(np.zeros((48, 48, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), [7, 7, 7]),
        (np.full((2, 3, 3), (1, 2, 3), np.uint8), [1, 2, 3]),
        (np.full((2, 3, 4), (1, 2, 3, 9), np.uint8), [1, 2, 3]),
    ],
)
def test_images_in_other_forms(image: Image, expected: list[int]) -> None:
    assert as_bgr(image)[0, 0].tolist() == expected
    assert as_bgr(image).shape == (2, 3, 3)
    assert as_bgr(image, "RGB")[0, 0].tolist() == expected[::-1]


def test_an_image_may_be_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((2, 3, 3), (1, 2, 3), np.uint8))
    assert as_bgr(path)[0, 0].tolist() == as_bgr(str(path), "RGB")[0, 0].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"b\.png: no such image"):
        as_bgr(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("image", "channels", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "BGR", r"float32 \[4, 4, 3\]"),
        (np.zeros((4, 4, 2), np.uint8), "BGR", "3 channels"),
        (np.zeros((0, 4, 3), np.uint8), "BGR", r"uint8 \[0, 4, 3\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), "BGR", r"\[1, 4, 4, 3\]"),
        ([[1]], "BGR", "got list"),
        (np.zeros((4, 4, 3), np.uint8), "rgb", "say BGR"),
    ],
)
def test_what_is_no_image_is_one_line(image: Any, channels: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        as_bgr(image, channels)


def _drawn(*lines: str) -> Image:
    """Return a page with lines of text, black on white."""
    font = Font("uni")
    page = np.full((60 + 90 * len(lines), 640, 3), 255, np.uint8)
    for row, line in enumerate(lines):
        ink = font.draw(line, 36, margin=0)
        page[40 + 90 * row :, 40:][: ink.shape[0], : ink.shape[1]] -= np.repeat(ink[:, :, None], 3, axis=2)
    return page


DET, REC = "PP-OCRv6_tiny_det", "PP-OCRv6_tiny_rec"


@pytest.fixture(scope="module")
def real(zoo: Callable[[str], Path]) -> Reader:
    return ocrslim.load(zoo(DET).parent, zoo(REC).parent, engine="onnxruntime", threads=1)


def test_a_real_pair_reads_a_drawn_page(real: Reader) -> None:
    page = _drawn("Invoice 2024", "测试文字", "Total 128.50")
    found = real(page)
    assert found.text == "Invoice 2024\n测试文字\nTotal 128.50"
    assert real(np.ascontiguousarray(page[:, :, ::-1]), channels="RGB").text == found.text
    tops = [line.points[0, 1] for line in found.lines]
    assert tops == sorted(tops)


def test_a_tall_box_is_turned(real: Reader) -> None:
    page = np.ascontiguousarray(np.rot90(_drawn("Invoice 2024"), -1))  # the text runs downwards
    assert real(page).text == "Invoice 2024"


def test_one_model_does_its_own_part(zoo: Callable[[str], Path]) -> None:
    page = _drawn("Invoice 2024")
    det = load_model(zoo(DET).parent, engine="onnxruntime", threads=1)
    assert isinstance(det, Detector)
    (box,) = det(page)
    assert box.points.shape == (4, 2)
    assert 0.4 < box.score <= 1
    rec = ocrslim.load(zoo(REC).parent, engine="onnxruntime", threads=1)
    assert isinstance(rec, Recognizer)
    line = rec(page[30:90, 30:320])
    assert line.text == "Invoice 2024"
    assert 0.5 < line.score <= 1


def test_models_in_the_wrong_order_or_settings_out_of_range(zoo: Callable[[str], Path]) -> None:
    det, rec = zoo(DET).parent, zoo(REC).parent
    with pytest.raises(InputError, match="a det model is needed first"):
        load_pair(rec, det, engine="onnxruntime", threads=1)
    with pytest.raises(InputError, match=r"drop_score 1\.5"):
        load_pair(det, rec, drop_score=1.5)
    with pytest.raises(ModelError, match="no such file, folder or model"):
        ocrslim.load("no-such-model")


def test_reading_needs_no_torch(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    cv2.imwrite(str(path), _drawn("Invoice 2024"))
    code = (
        "import sys\nfor name in ('torch', 'safetensors'): sys.modules[name] = None\n"
        "import ocrslim\n"
        f"reader = ocrslim.load({str(zoo(DET).parent)!r}, {str(zoo(REC).parent)!r}, engine='onnxruntime', threads=1)\n"
        f"print(reader({str(path)!r}).text)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "Invoice 2024\n"
