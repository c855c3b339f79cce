"""Label files as people have them: every line that can't be used is named, none is lost in silence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrslim.errors import DataError
from ocrslim.ocr.labels import (
    DetSample,
    RecSample,
    find_data_dir,
    guess_task,
    list_images,
    read_det_labels,
    read_rec_labels,
    read_samples,
)

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10]]
BOX = {"transcription": "word", "points": SQUARE}

Write = Callable[..., Path]


@pytest.fixture
def images(tmp_path: Path, write_image: Write) -> Path:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name)
    return tmp_path / "images"


def test_boxes_come_with_text_points_and_set(images: Path, write_labels: Write) -> None:
    path = write_labels([[BOX, {"transcription": "第6 节", "points": [[1.5, 2], [3, 4], [5, 9]]}]])
    samples, skipped = read_det_labels(path)
    assert skipped == []
    assert [(sample.image, sample.set_name) for sample in samples] == [(images / "a.png", "images")]
    first, second = samples[0].boxes
    assert (first.text, second.text) == ("word", "第6 节")
    assert first.points.dtype == np.float32
    assert second.points.tolist() == [[1.5, 2.0], [3.0, 4.0], [5.0, 9.0]]


@pytest.mark.parametrize(
    ("text", "ignore"), [("*", True), ("###", True), ("", False), ("##", False), ("#### ", False), ("**", False)]
)
def test_only_star_and_hashes_are_ignored(images: Path, write_labels: Write, text: str, ignore: bool) -> None:
    samples, _ = read_det_labels(write_labels([[BOX | {"transcription": text}]]))
    assert [box.ignore for box in samples[0].boxes] == [ignore]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ({"transcription": "x"}, "no transcription and points"),
        ({"points": SQUARE}, "no transcription and points"),
        ([1, 2], "no transcription and points"),
        (None, "no transcription and points"),
        (BOX | {"points": [[0, 0], [1, 1]]}, "2 points, at least 3"),
        (BOX | {"points": []}, "not pairs of numbers"),
        (BOX | {"points": None}, "not pairs of numbers"),
        (BOX | {"points": [[0, 0, 0]] * 4}, "not pairs of numbers"),
        (BOX | {"points": [[0, 0], [1], [2, 2]]}, "not pairs of numbers"),
        (BOX | {"points": [0, 0, 10, 10]}, "not pairs of numbers"),
        (BOX | {"points": [["a", 0]] * 4}, "not pairs of numbers"),
        (BOX | {"points": {"x": 1}}, "not pairs of numbers"),
        (BOX | {"points": [[float("nan"), 0], *SQUARE]}, "not finite"),
        (BOX | {"points": [[float("inf"), 0], *SQUARE]}, "not finite"),
        (BOX | {"points": [[10**400, 0], *SQUARE]}, "not pairs of numbers"),
        (BOX | {"points": [[1e9, 0], *SQUARE]}, "beyond a million"),
    ],
)
def test_a_bad_box_is_named_and_its_neighbours_stay(
    images: Path, write_labels: Write, label: object, reason: str
) -> None:
    path = write_labels([[BOX, label, BOX]])
    samples, skipped = read_det_labels(path)
    assert len(samples[0].boxes) == 2
    assert [item.where for item in skipped] == [f"{path}:1"]
    assert skipped[0].reason.startswith("box 2: ")
    assert reason in skipped[0].reason


def test_what_a_polygon_is_worth_is_for_evaluation_and_training_to_say(images: Path, write_labels: Write) -> None:
    kinds = [[[5, 5]] * 4, [[0, 0], [9, 9], [9, 0], [0, 9]], [[-50, -50], [-10, -50], [-10, -20]]]
    samples, skipped = read_det_labels(write_labels([[BOX | {"points": points} for points in kinds]]))
    assert (len(samples[0].boxes), skipped) == (3, [])


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("[{", "not JSON"),
        ("", "not JSON"),
        ("word", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"points": 1}', "not a list"),
        ("12", "not a list"),
        ("null", "not a list"),
        ('[{"points": 1, "transcription": "x"}]', "box 1"),
    ],
)
def test_a_bad_label_is_named_by_file_and_line(images: Path, write_labels: Write, label: str, reason: str) -> None:
    path = write_labels([[BOX], f"images/b.png\t{label}", [BOX]])
    samples, skipped = read_det_labels(path)
    assert len(samples) == 2
    assert {item.where for item in skipped} == {f"{path}:2"}
    assert reason in skipped[0].reason


def test_an_image_whose_boxes_are_all_bad_is_not_an_image_without_text(images: Path, write_labels: Write) -> None:
    path = write_labels([[BOX | {"points": []}], []])
    samples, skipped = read_det_labels(path)
    assert [sample.boxes for sample in samples] == [()]
    assert [item.where for item in skipped] == [f"{path}:1", f"{path}:1"]
    assert skipped[1].reason == "none of the image's boxes can be used"


def test_texts_are_kept_to_the_letter(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "rec.txt"
    path.write_bytes("images/a.png\t a b　\nimages/b.png\t\u2028x\u0085y\r\n".encode())
    samples, skipped = read_rec_labels(path)
    assert [sample.text for sample in samples] == [" a b　", "\u2028x\u0085y"]
    assert skipped == []


def test_bom_crlf_and_a_missing_last_newline_do_no_harm(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "rec.txt"
    path.write_bytes(b"\xef\xbb\xbfimages/a.png\tone\r\nimages/b.png\ttwo")
    samples, skipped = read_rec_labels(path)
    assert [(sample.image.name, sample.text) for sample in samples] == [("a.png", "one"), ("b.png", "two")]
    assert skipped == []


def test_every_line_is_a_sample_or_skipped(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "rec.txt"
    lines = [b"images/a.png\tone", b"", b"  \t ", b"no tab", b"\tno image", b"images/a.png\t", b"images/c.png\tx"]
    path.write_bytes(b"\r\n".join([*lines, b"images/b.png\t\xff\xfe", b"images/b.png\ttwo\textra", b""]))
    samples, skipped = read_rec_labels(path)
    assert [sample.text for sample in samples] == ["one", "two"]
    assert {item.where: item.reason for item in skipped} == {
        f"{path}:2": "empty line",
        f"{path}:3": "empty line",
        f"{path}:4": "no image and label with a tab between",
        f"{path}:5": "no image and label with a tab between",
        f"{path}:6": "the text is empty",
        f"{path}:7": f"no such image: {images / 'c.png'}",
        f"{path}:8": "not in UTF-8",
    }


def test_an_image_name_that_no_file_can_have_is_a_missing_image(images: Path, write_labels: Write) -> None:
    path = write_labels(["images/a.png\tx", "x" * 5000 + "\tx", "images\tx"])
    samples, skipped = read_rec_labels(path)
    assert len(samples) == 1
    assert [item.reason.startswith("no such image") for item in skipped] == [True, True]


@pytest.mark.parametrize("content", ["a.png\tx".encode("utf-16"), b"a.png\tx\0\0"])
def test_other_encodings_and_binaries_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rec.txt").write_bytes(content)
    with pytest.raises(DataError, match="UTF-8"):
        read_rec_labels(tmp_path / "rec.txt")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"only words\n"])
def test_a_file_without_a_single_label_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rec.txt").write_bytes(content)
    for read in (read_rec_labels, read_det_labels, guess_task):
        with pytest.raises(DataError, match="no line with an image and a label"):
            read(tmp_path / "rec.txt")


def test_images_are_relative_to_the_nearest_folder_that_has_the_first(tmp_path: Path, write_image: Write) -> None:
    labels = tmp_path / "data" / "rec" / "labels" / "val.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("images/a.png\tone\nimages/b.png\ttwo\n", encoding="utf-8")
    with pytest.raises(DataError, match="--data-dir"):
        find_data_dir(labels)
    write_image(tmp_path / "images" / "a.png")
    assert find_data_dir(labels) == tmp_path
    write_image(tmp_path / "data" / "images" / "b.png")
    assert find_data_dir(labels) == tmp_path  # the first image decides, not the nearest of any
    write_image(tmp_path / "data" / "images" / "a.png")
    assert find_data_dir(labels) == tmp_path / "data"
    assert [sample.image.parent for sample in read_rec_labels(labels)[0]] == [tmp_path / "data" / "images"] * 2


def test_the_next_image_decides_where_the_first_is_missing(images: Path, write_labels: Write) -> None:
    path = write_labels(["images/gone.png\tx", "images/a.png\tx"])
    assert find_data_dir(path) == images.parent


def test_a_relative_label_file_is_found_from_where_one_is(
    images: Path, write_labels: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_labels(["images/a.png\tx"])
    monkeypatch.chdir(path.parent)
    assert find_data_dir(Path(path.name)) == images.parent


def test_absolute_image_paths_stay(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "rec.txt"
    path.parent.mkdir()
    path.write_text(f"{images / 'a.png'}\tx\n", encoding="utf-8")
    assert read_rec_labels(path)[0][0].image == images / "a.png"


def test_data_dir_is_taken_at_its_word(images: Path, tmp_path: Path, write_labels: Write) -> None:
    path = write_labels(["a.png\tx"])
    assert len(read_rec_labels(path, images)[0]) == 1
    with pytest.raises(DataError, match="none of its 1 images is under"):
        read_rec_labels(path, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_rec_labels(path, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("lines", "task"),
    [
        ([[BOX]], "det"),
        (["images/a.png\tword"], "rec"),
        (["images/a.png\tbroken", [BOX]], "det"),
        (["images/a.png\t[]"], "det"),
        (["images/a.png\t[]", "images/a.png\tword"], "rec"),
        (['images/a.png\t["quoted"]'], "rec"),
    ],
)
def test_the_task_of_a_label_file(write_labels: Write, lines: list[object], task: str) -> None:
    assert guess_task(write_labels(lines)) == task


def test_labels_for_the_other_task_are_refused(images: Path, write_labels: Write) -> None:
    with pytest.raises(DataError, match=r"holds labels for text detection .* but rec labels are needed"):
        read_samples("rec", write_labels([[BOX]]))
    with pytest.raises(DataError, match=r"holds labels for text recognition .* but det labels are needed"):
        read_samples("det", write_labels(["images/a.png\tword"]))


def test_a_folder_gives_images_without_labels(images: Path, write_image: Write) -> None:
    write_image(images / "deep" / "c.JPG")
    (images / "notes.txt").write_text("x", encoding="utf-8")
    (images / ".hidden").mkdir()
    write_image(images / ".hidden" / "d.png")
    write_image(images / "._e.png")
    assert list_images(images) == [images / "a.png", images / "b.png", images / "deep" / "c.JPG"]
    lines, skipped = read_samples("rec", images)
    assert skipped == []
    assert lines[2] == RecSample(images / "deep" / "c.JPG", None, "deep")
    assert read_samples("det", images)[0][0] == DetSample(images / "a.png", (), "images")
    with pytest.raises(DataError, match="name the task"):
        guess_task(images)


def test_an_empty_folder_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in this folder"):
        read_samples("det", tmp_path)
    with pytest.raises(DataError, match="no such label file"):
        read_samples("det", tmp_path / "missing.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(write_labels: Write) -> None:
    path = write_labels(["a.png\tx"])
    path.chmod(0)
    with pytest.raises(DataError, match="can't be read"):
        read_samples("rec", path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.lists(st.binary(max_size=40) | st.just(b'images/a.png\t[{"points"'), max_size=8).map(b"\n".join))
def test_no_bytes_break_the_readers(images: Path, content: bytes) -> None:
    path = images.parent / "fuzz.txt"
    path.write_bytes(content + b"\nimages/a.png\t[]")
    for read in (read_det_labels, read_rec_labels):
        try:
            samples, skipped = read(path)
        except DataError:
            continue
        lines = content.removeprefix(b"\xef\xbb\xbf").count(b"\n") + 2
        accounted = {item.where for item in skipped}
        assert len(samples) + len(accounted) >= lines
        assert all(item.reason for item in skipped)


def test_the_real_label_files_are_whole(real_data: Path) -> None:
    pages, skipped = read_samples("det", real_data / "det" / "labels" / "val.txt")
    assert (len(pages), len(skipped)) == (177, 0)
    assert {page.set_name for page in pages} == {"ic15", "td500", "sroie", "funsd", "zh_bd"}
    lines, skipped = read_samples("rec", real_data / "rec" / "labels" / "val.txt")
    assert (len(lines), len(skipped)) == (1601, 0)


_TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\t\n\r\0"), min_size=1, max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(_TEXTS, min_size=1, max_size=8))
def test_texts_that_are_written_are_read(images: Path, texts: list[str]) -> None:
    path = images.parent / "written.txt"
    path.write_bytes("".join(f"images/a.png\t{text}\n" for text in texts).encode())
    samples, skipped = read_rec_labels(path)
    assert [sample.text for sample in samples] == texts
    assert skipped == []


_POINTS = st.lists(st.tuples(st.integers(-50, 5000), st.integers(-50, 5000)), min_size=3, max_size=16)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(boxes=st.lists(st.tuples(_TEXTS | st.sampled_from(["*", "###"]), _POINTS), max_size=5), escape=st.booleans())
def test_boxes_that_are_written_are_read(
    images: Path, boxes: list[tuple[str, list[tuple[int, int]]]], escape: bool
) -> None:
    labels = [{"transcription": text, "points": points, "difficult": False} for text, points in boxes]
    path = images.parent / "written.txt"
    path.write_bytes(f"images/a.png\t{json.dumps(labels, ensure_ascii=escape)}\n".encode())
    samples, skipped = read_det_labels(path)
    assert skipped == []
    assert [box.text for box in samples[0].boxes] == [text for text, _ in boxes]
    assert [box.points.astype(int).tolist() for box in samples[0].boxes] == [[*map(list, p)] for _, p in boxes]
    assert [box.ignore for box in samples[0].boxes] == [text in ("*", "###") for text, _ in boxes]


def test_transcriptions_that_are_no_text_are_spelled(images: Path, write_labels: Write) -> None:
    samples, skipped = read_det_labels(write_labels([[BOX | {"transcription": value} for value in (12, 1.5, True)]]))
    assert [box.text for box in samples[0].boxes] == ["12", "1.5", "True"]
    assert skipped == []


@pytest.mark.parametrize("name", ["images/a b.png", "images/图片.png", "./images/a.png", "images//a.png"])
def test_names_with_spaces_and_detours_are_found(images: Path, write_image: Write, tmp_path: Path, name: str) -> None:
    if not (tmp_path / name).exists():
        write_image(tmp_path / name)
    (tmp_path / "rec.txt").write_text(f"{name}\tx\n", encoding="utf-8")
    samples, skipped = read_rec_labels(tmp_path / "rec.txt")
    assert (len(samples), skipped) == (1, [])
    assert samples[0].image.is_file()


def test_skipped_things_come_in_the_order_of_the_file(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "rec.txt"
    path.write_text("images/a.png\tx\nimages/gone.png\tx\nimages/a.png\t\nimages/b.png\ty\n", encoding="utf-8")
    _, skipped = read_rec_labels(path)
    assert [item.where for item in skipped] == [f"{path}:2", f"{path}:3"]
    read_again = read_samples("rec", path)
    assert read_again[1] == skipped


def test_the_same_image_may_come_twice(images: Path, write_labels: Write) -> None:
    samples, _ = read_rec_labels(write_labels(["images/a.png\tone", "images/a.png\ttwo"]))
    assert [sample.text for sample in samples] == ["one", "two"]
    assert samples[0].image == samples[1].image


def test_a_folder_in_the_place_of_a_label_file_is_read_as_images(images: Path) -> None:
    with pytest.raises(DataError, match="no such label file"):
        read_rec_labels(images)
    assert len(read_samples("rec", images)[0]) == 2


def test_a_box_whose_numbers_are_strings_of_digits_is_read(images: Path, write_labels: Write) -> None:
    """Some labelling tools quote their numbers; a float can be read from each of them."""
    samples, skipped = read_det_labels(write_labels([[BOX | {"points": [["0", "0"], ["9", "0"], ["9", "9"]]}]]))
    assert skipped == []
    assert samples[0].boxes[0].points.tolist() == [[0.0, 0.0], [9.0, 0.0], [9.0, 9.0]]


@pytest.mark.parametrize("task", ["det", "rec"])
def test_a_name_longer_than_any_file_has_is_one_clear_line(task: Any) -> None:
    with pytest.raises(DataError, match=r"^x{300}: no such label file$"):
        read_samples(task, Path("x" * 300))
    with pytest.raises(DataError, match=r"^x{300}: no such label file$"):
        guess_task(Path("x" * 300))


def test_a_data_dir_with_such_a_name_is_told_too(images: Path, write_labels: Write) -> None:
    with pytest.raises(DataError, match=r"--data-dir x{300}: no such folder"):
        read_det_labels(write_labels([[BOX]]), Path("x" * 300))


def test_a_folder_that_one_may_not_enter_is_one_clear_line(tmp_path: Path, no_entry: Callable[[str], None]) -> None:
    (tmp_path / "closed").mkdir()
    no_entry("closed/")
    with pytest.raises(DataError, match="no such label file"):
        read_samples("rec", tmp_path / "closed" / "labels.txt")
