"""PaddleOCR's LMDB, written here with the lmdb package and read back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrslim.errors import DataError
from ocrslim.ocr import labels as labels_module
from ocrslim.ocr import lmdb as lmdb_module
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import RecSample, guess_task, read_samples
from ocrslim.ocr.lmdb import is_lmdb_image, lmdb_folders, read_lmdb_image, read_lmdb_labels


def _image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)


def _write(folder: Path, entries: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Path:
    entries = {"num-samples": b"3"}
    for index, text in enumerate(("one", "二", "drei x"), 1):
        entries[f"image-{index:09d}"] = cv2.imencode(".png", _image(index))[1].tobytes()
        entries[f"label-{index:09d}"] = text.encode()
    return _write(tmp_path / "words", entries)


def test_samples_have_texts_and_the_folder_as_set(database: Path) -> None:
    samples, skipped = read_samples("rec", database)
    assert skipped == []
    assert samples == [
        RecSample(database / f"image-{index:09d}", text, "words")
        for index, text in enumerate(("one", "二", "drei x"), 1)
    ]
    assert guess_task(database) == "rec"


def test_images_are_read_like_files(database: Path) -> None:
    path = database / "image-000000002"
    assert is_lmdb_image(path)
    np.testing.assert_array_equal(read_image(path), _image(2))
    with pytest.raises(DataError, match="no such image"):
        read_image(database / "image-000000009")


def test_a_file_of_that_name_is_not_taken_for_an_entry(tmp_path: Path) -> None:
    assert not is_lmdb_image(tmp_path / "image-000000001")
    with pytest.raises(DataError, match="no such image file"):
        read_image(tmp_path / "image-000000001")


def test_nothing_is_written_by_reading(database: Path) -> None:
    (database / "lock.mdb").unlink()
    read_samples("rec", database)
    assert [path.name for path in database.iterdir()] == ["data.mdb"]


def test_nested_databases_are_all_read(database: Path, tmp_path: Path) -> None:
    entries = {"num-samples": b"1", "image-000000001": b"x", "label-000000001": b"four"}
    other = _write(tmp_path / "more" / "deep", entries)
    assert lmdb_folders(tmp_path) == [other, database]
    samples, _ = read_samples("rec", tmp_path)
    assert [(sample.text, sample.set_name) for sample in samples if isinstance(sample, RecSample)] == [
        ("four", "deep"),
        ("one", "words"),
        ("二", "words"),
        ("drei x", "words"),
    ]


def test_entries_that_are_missing_or_no_text_are_named(tmp_path: Path) -> None:
    entries = {
        "num-samples": b"5",
        "image-000000001": b"x",
        "label-000000002": b"no image",
        "image-000000003": b"x",
        "label-000000003": b"\xff",
        "image-000000004": b"x",
        "label-000000004": b"",
        "image-000000005": b"x",
        "label-000000005": b"good",
    }
    folder = _write(tmp_path / "words", entries)
    samples, skipped = read_samples("rec", folder)
    assert [sample.image.name for sample in samples] == ["image-000000005"]
    assert [(Path(item.where).name[-1], item.reason) for item in skipped] == [
        ("1", "the image or its label is missing"),
        ("2", "the image or its label is missing"),
        ("3", "the label is not in UTF-8"),
        ("4", "the text is empty"),
    ]


@pytest.mark.parametrize("entries", [{}, {"num-samples": b"many"}, {"num-samples": b"-1"}])
def test_another_layout_is_refused(tmp_path: Path, entries: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match="num-samples"):
        read_samples("rec", _write(tmp_path / "words", entries))


def test_a_count_beyond_all_keys_does_not_run_for_ever(tmp_path: Path) -> None:
    entries = {"num-samples": b"99999999999", "image-000000001": b"x", "label-000000001": b"a"}
    found = list(read_lmdb_labels(_write(tmp_path / "words", entries)))
    assert found[0] == (1, b"a")
    assert len(found) == 3


def test_a_broken_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not an lmdb" * 1000)
    with pytest.raises(DataError, match="no LMDB that can be read"):
        read_samples("rec", tmp_path)


def test_a_folder_with_an_lmdb_and_images_is_refused(database: Path) -> None:
    (database.parent / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="holds both an LMDB"):
        read_samples("rec", database.parent)


def test_detection_has_no_lmdb(database: Path) -> None:
    with pytest.raises(DataError, match="an LMDB holds text lines"):
        read_samples("det", database)


def test_threads_may_read_at_once(database: Path) -> None:
    failures: list[DataError] = []

    def read(run: Callable[[Path], object]) -> None:
        try:
            for index in range(60):
                run(database / f"image-{index % 3 + 1:09d}")
        except DataError as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(read_lmdb_image,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


PRINTED = st.text(st.characters(categories=("L", "M", "N", "P", "S")), min_size=1, max_size=10)


@settings(max_examples=15, deadline=None)
@given(texts=st.lists(PRINTED, min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    entries = {"num-samples": str(len(texts)).encode()}
    for index, text in enumerate(texts, 1):
        entries |= {f"image-{index:09d}": bytes([index]) * 100, f"label-{index:09d}": text.encode()}
    folder = _write(tmp_path_factory.mktemp("lmdb") / "set", entries)
    samples, skipped = read_samples("rec", folder)
    assert [sample.text for sample in samples if isinstance(sample, RecSample)] == texts
    assert skipped == []
    assert read_lmdb_image(samples[-1].image) == bytes([len(texts)]) * 100


@pytest.mark.parametrize(("said", "count"), [(b"2", 2), (b" 3\n", 3), (b"0", 0), (b"5", 5)])
def test_the_number_of_samples_is_taken_at_its_word_up_to_the_keys(database: Path, said: bytes, count: int) -> None:
    with lmdb.open(str(database), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"num-samples", said)
    found = list(read_lmdb_labels(database))
    assert len(found) == count
    assert [label for _, label in found[:3]] == [b"one", "二".encode(), b"drei x"][:count]
    assert [label for _, label in found[3:]] == [None] * max(0, count - 3)


def test_a_damaged_image_in_a_sound_database_is_named(database: Path) -> None:
    with lmdb.open(str(database), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"image-000000002", b"no image")
    assert len(read_samples("rec", database)[0]) == 3  # nobody looks into the images yet
    with pytest.raises(DataError, match="image-000000002"):
        read_image(database / "image-000000002")


def test_a_database_may_be_read_while_it_may_not_be_written(database: Path) -> None:
    (database / "lock.mdb").unlink()
    database.chmod(0o555)
    try:
        assert len(read_samples("rec", database)[0]) == 3
    finally:
        database.chmod(0o755)


def test_an_empty_data_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").touch()
    with pytest.raises(DataError, match="no LMDB that can be read"):
        read_samples("rec", tmp_path)
    assert lmdb_folders(tmp_path / "nothing") == []


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.9])
def test_a_database_cut_short_is_told_and_kills_nothing(database: Path, share: float) -> None:
    path = database / "data.mdb"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="no LMDB that can be read"):
        read_samples("rec", database)


def test_labels_are_read_in_ranges_across_their_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_module, "AT_A_TIME", 4)
    entries = {"num-samples": b"11"}
    for index in (1, 2, 4, 5, 8, 9, 11):
        entries |= {f"image-{index:09d}": b"x", f"label-{index:09d}": str(index).encode()}
    found = dict(read_lmdb_labels(_write(tmp_path / "words", entries)))
    assert list(found) == list(range(1, 12))
    assert {number for number, label in found.items() if label == str(number).encode()} == {1, 2, 4, 5, 8, 9, 11}


def test_many_texts_are_kept_as_bytes(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, _ = read_samples("rec", database)
    monkeypatch.setattr(labels_module, "MOST_OBJECTS", 2)
    samples, skipped = read_samples("rec", database)
    assert not isinstance(samples, (list, tuple))
    assert list(samples) == objects
    assert skipped == []
