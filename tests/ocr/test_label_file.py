"""The lines of a label file, and samples that are made of them when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrslim.errors import DataError
from ocrslim.ocr import label_file, labels
from ocrslim.ocr.label_file import Skipped, read_lines
from ocrslim.ocr.labels import _SOUND, read_det_labels, read_rec_labels
from ocrslim.ocr.sequences import Joined, Picked, join, pick

Write = Callable[..., Path]
SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10]]
BOX = {"transcription": "word", "points": SQUARE}


@pytest.fixture
def folder(tmp_path: Path, write_image: Write) -> Path:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name)
    return tmp_path


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep no sample as an object."""
    monkeypatch.setattr(labels, "MOST_OBJECTS", 0)


def both(path: Path, read: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> tuple[object, object]:
    """Return what is read as objects, and what is read by an index."""
    objects = read(path)
    monkeypatch.setattr(labels, "MOST_OBJECTS", 0)
    return objects, read(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_an_index_gives_the_same_samples(folder: Path, monkeypatch: pytest.MonkeyPatch, end: str, bom: str) -> None:
    odd = [BOX | {"points": [[0, 0], [1, 1]]}, BOX, {"transcription": 1}]
    written = [[BOX], [], [BOX, odd[0]], odd, [odd[0]], "no json", [BOX | {"transcription": '第"6\\ \u2028'}]]
    lines = [f"images/a.png\t{json.dumps(item, ensure_ascii=bool(bom))}" for item in written]
    lines += ["", "images/gone.png\t[]", "images//b.png\t[]\tmore"]
    (folder / "det.txt").write_text(bom + end.join(lines), encoding="utf-8", newline="")
    (folder / "rec.txt").write_text(
        bom + end.join(["images/a.png\tone", "images/b.png\t", "images/a.png\t 二 \tx"]), encoding="utf-8", newline=""
    )
    (samples, skipped), (lazy, noted) = both(folder / "det.txt", read_det_labels, monkeypatch)  # type: ignore[misc]
    assert [(item.image, item.set_name) for item in lazy] == [(item.image, item.set_name) for item in samples]
    assert [[box.text for box in item.boxes] for item in lazy] == [[box.text for box in item.boxes] for item in samples]
    assert all(
        np.array_equal(a.points, b.points)
        for x, y in zip(lazy, samples, strict=True)
        for a, b in zip(x.boxes, y.boxes, strict=True)
    )
    assert (len(samples), noted) == (6, skipped)
    assert read_rec_labels(folder / "rec.txt")[0][0].text == "one"
    assert [item.text for item in read_rec_labels(folder / "rec.txt")[0]] == ["one", " 二 "]


_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
_NUMBERS = st.integers(-(10**7), 10**7) | st.floats(allow_nan=True) | st.just(0.1)
_BOXES = st.fixed_dictionaries(
    {
        "transcription": _TEXT | st.integers(),
        "points": st.lists(st.lists(_NUMBERS, min_size=1, max_size=3), max_size=6) | st.just(SQUARE),
    },
    optional={"difficult": st.booleans() | st.integers(0, 3), "more": _TEXT},
)


@given(boxes=st.lists(_BOXES, max_size=3), ascii_=st.booleans(), tight=st.booleans())
def test_a_label_taken_for_sound_is_so(boxes: list[object], ascii_: bool, tight: bool) -> None:
    label = json.dumps(boxes, ensure_ascii=ascii_, separators=(",", ":") if tight else None)
    if _SOUND.fullmatch(label) is not None:
        skipped: list[Skipped] = []
        sample = labels._det_sample(Path("a/b.png"), label, "x:1", skipped)
        assert sample is not None
        assert len(sample.boxes) == len(boxes)
        assert skipped == []


@pytest.mark.parametrize("extra", [{}, {"difficult": False}, {"difficult": True}])
def test_what_paddles_tools_write_is_taken_for_sound(extra: dict[str, bool]) -> None:
    for points in (SQUARE, [[1.5, 2.25], [-3, 4], [999999, 0], [7, 8], [9, 10]]):
        for text in ("word", '第6 "节" \\ \t', "", "###"):
            for ascii_ in (False, True):
                label = json.dumps([{"transcription": text, "points": points} | extra] * 2, ensure_ascii=ascii_)
                assert _SOUND.fullmatch(label) is not None, label
    assert _SOUND.fullmatch("[]") is not None


@pytest.mark.usefixtures("indexed")
def test_a_file_that_changes_while_in_use_is_told(folder: Path) -> None:
    path = folder / "rec.txt"
    path.write_text("images/a.png\tone\nimages/b.png\ttwo\n", encoding="utf-8")
    samples, _ = read_rec_labels(path)
    assert [sample.text for sample in samples] == ["one", "two"]
    path.write_text("images/a.png\tanother\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rec\.txt: was changed while it was in use; run again"):
        samples[1]
    path.unlink()
    with pytest.raises(DataError, match="can't be read any more"):
        samples[0]


@pytest.mark.usefixtures("indexed")
def test_an_index_is_a_sequence(folder: Path) -> None:
    path = folder / "rec.txt"
    path.write_text("".join(f"images/a.png\t{number}\n" for number in range(10)), encoding="utf-8")
    samples, _ = read_rec_labels(path)
    assert not isinstance(samples, (list, tuple))
    assert [samples[0].text, samples[-1].text, len(samples)] == ["0", "9", 10]
    assert [sample.text for sample in samples[2:9:3]] == ["2", "5", "8"]
    assert [sample.text for sample in samples[::-1][:2]] == ["9", "8"]
    with pytest.raises(IndexError):
        samples[10]


def test_a_line_without_an_end_takes_no_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_file, "LONGEST_LINE", 100)
    path = folder / "rec.txt"
    path.write_bytes(b"images/a.png\tone\n" + b"x" * 1000 + b"\nimages/b.png\ttwo\n" + b"y" * 300)
    skipped: list[Skipped] = []
    lines = list(read_lines(path, skipped))
    assert [(line.number, line.label) for line in lines] == [(1, "one"), (3, "two")]
    assert [item.where for item in skipped] == [f"{path}:2", f"{path}:4"]
    assert all(item.reason.startswith("longer than") for item in skipped)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.lists(st.binary(max_size=30) | st.just(b"a.png\tx"), max_size=8).map(b"\n".join))
def test_the_place_of_a_line_is_where_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.txt"
    path.write_bytes(content)
    try:
        lines = list(read_lines(path))
    except DataError:
        return
    for line in lines:
        raw = content[line.start : line.start + line.length]
        assert label_file.split_line(raw) == (line.image, line.label)
        assert raw.rstrip(b"\n").count(b"\n") == 0


@given(parts=st.lists(st.lists(st.integers(), max_size=4), max_size=4), data=st.data())
def test_joined_and_picked_are_what_a_list_would_be(parts: list[list[int]], data: st.DataObject) -> None:
    flat = [item for part in parts for item in part]
    joined: Joined[int] = Joined(parts)
    assert list(joined) == flat == list(join(parts))
    assert list(joined[1:-1]) == flat[1:-1]
    places = data.draw(st.lists(st.integers(0, len(flat) - 1), max_size=6)) if flat else []
    picked = Picked(joined, np.array(places, np.int64), str)
    assert list(picked) == [str(flat[place]) for place in places] == list(pick(flat, np.array(places, np.int64), str))
    assert list(picked[::2]) == list(picked)[::2]
    assert [joined[-1 - index] for index in range(len(flat))] == flat[::-1]


def test_what_is_picked_from_objects_is_objects() -> None:
    assert isinstance(pick((1, 2), np.array([1])), tuple)
    assert isinstance(pick(Joined([[1, 2]]), np.array([1])), Picked)
    assert isinstance(join([[1], Joined([[2]])]), Joined)
