"""Labelled batches: every sample once an epoch, pure in seed and step however many threads, shares, LMDBs, mistakes."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest

from ocrslim.config import transforms as t
from ocrslim.config.paddleslim_data import Dataset
from ocrslim.errors import DataError
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.labels import RecSample
from ocrslim.ocr.pipeline import Pipeline
from ocrslim.slimming.training.labelled_loader import LabelledBatches, make_ahead, open_labelled

CHARSET = Charset(list("0123456789"))
CHAIN = (t.DecodeImage("BGR"), t.MultiLabelEncode(), t.RecResizeImg((3, 48, 64)))
AUGMENTED = (t.DecodeImage("BGR"), t.RecConAug(0.5, 2, (48, 320), 25), t.RecAug(), t.MultiLabelEncode(), CHAIN[2])


def lines(folder: Path, count: int, first: int = 0) -> list[RecSample]:
    """Return lines whose text is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(first, first + count):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.full((24, 40, 3), number, np.uint8))
        found.append(RecSample(path, str(number), "set"))
    return found


def dataset(tmp_path: Path, **changes: Any) -> Dataset:
    usual = Dataset("Train", "files", tmp_path, (tmp_path / "a.txt",), (1.0,), CHAIN, True, False, 4, 0, 1, "x.yaml:9")
    return replace(usual, **changes)


def texts(batch: dict[str, Any]) -> list[int]:
    found = zip(batch["label_ctc"], batch["length"], strict=True)
    return [int("".join(CHARSET.classes[c] for c in label[:length])) for label, length in found]


def batches(tmp_path: Path, count: int, batch: int, **options: Any) -> LabelledBatches:
    return LabelledBatches(lines(tmp_path / "i", count), Pipeline(CHAIN, CHARSET), batch, 0, **options)


@pytest.mark.parametrize(
    ("count", "batch", "drop_last", "steps"), [(10, 4, False, 3), (10, 4, True, 2), (8, 4, True, 2), (3, 8, True, 1)]
)
def test_epochs(tmp_path: Path, count: int, batch: int, drop_last: bool, steps: int) -> None:
    made = batches(tmp_path, count, batch, drop_last=drop_last)
    assert made.steps_per_epoch == steps
    for epoch in range(3):
        seen = Counter(text for step in range(steps) for text in texts(made.batch(epoch * steps + step)))
        assert max(seen.values()) == 1
        assert sum(seen.values()) == (min(count, steps * batch) if drop_last else count)


def test_orders_differ_by_epoch_and_seed_unless_they_are_not_shuffled(tmp_path: Path) -> None:
    made = batches(tmp_path, 12, 12)
    orders = [texts(made.batch(step)) for step in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    other = LabelledBatches(lines(tmp_path / "i", 12), Pipeline(CHAIN, CHARSET), 12, seed=1)
    assert texts(other.batch(0)) != orders[0]
    still = batches(tmp_path, 12, 5, shuffle=False)
    assert texts(still.batch(0)) + texts(still.batch(1)) + texts(still.batch(2)) == list(range(12))
    assert texts(still.batch(3)) == [0, 1, 2, 3, 4]


def test_an_epoch_is_shuffled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, drawn, drawing = batches(tmp_path, 12, 3), [], np.random.default_rng

    def generator(seed: list[int]) -> np.random.Generator:
        drawn.append(tuple(seed))
        return drawing(seed)

    monkeypatch.setattr(np.random, "default_rng", generator)
    seen = [texts(made.batch(step)) for step in range(12)]
    assert [seed for seed in drawn if len(seed) == 2] == [(0, 0), (0, 1), (0, 2)]
    assert texts(made.batch(1)) == seen[1], "an epoch that comes again is the same"


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_threads_change_nothing(tmp_path: Path, workers: int) -> None:
    samples = lines(tmp_path / "i", 20)
    made = LabelledBatches(samples, Pipeline(AUGMENTED, CHARSET), 6, 3)
    again = LabelledBatches(samples, Pipeline(AUGMENTED, CHARSET), 6, 3)
    for step, batch in enumerate(make_ahead(made, 2, 7, workers), 2):
        expected = again.batch(step)
        assert set(batch) == set(expected)
        assert all(np.array_equal(batch[key], expected[key]) for key in ("image", "label_ctc", "length"))


def test_threads_end_with_the_iterator(tmp_path: Path) -> None:
    stream = make_ahead(batches(tmp_path, 8, 2), 0, 100, 3)
    next(stream)
    assert any(thread.name.startswith("ocrslim-batches") for thread in threading.enumerate())
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ocrslim-batches")]


def test_an_error_comes_where_the_batch_would_have(tmp_path: Path) -> None:
    gone = [RecSample(tmp_path / "gone.png", "1", "set")]
    stream = make_ahead(LabelledBatches(gone, Pipeline(CHAIN, CHARSET), 1, 0), 0, 3, 2)
    with pytest.raises(DataError, match="none of 1 samples"):
        next(stream)


def test_unusable_samples_are_named_and_others_stand_in(tmp_path: Path) -> None:
    samples = [*lines(tmp_path / "i", 6), RecSample(tmp_path / "gone.png", "1", "s")]
    samples.append(RecSample(samples[0].image.with_name("7.png"), "x", "s"))
    cv2.imwrite(str(samples[-1].image), np.zeros((8, 8, 3), np.uint8))
    made = LabelledBatches(samples, Pipeline(CHAIN, CHARSET), 4, 0)
    seen = Counter(text for step in range(4) for text in texts(made.batch(step)))
    assert sum(seen.values()) == 16
    assert set(seen) == set(range(6))
    assert {Path(path).name for path in made.refused} == {"gone.png", "7.png"}
    assert "dictionary" in made.refused[str(samples[-1].image)]


def test_images_of_several_sizes_make_no_batch_but_polygons_make_a_list(tmp_path: Path) -> None:
    for size in (20, 30):
        cv2.imwrite(str(tmp_path / f"{size}.png"), np.zeros((size, 40, 3), np.uint8))
    samples = [RecSample(tmp_path / f"{size}.png", "1", "s") for size in (20, 30)]
    with pytest.raises(DataError, match=r"differ in size; .*RecResizeImg"):
        LabelledBatches(samples, Pipeline([t.DecodeImage("BGR")]), 2, 0).batch(0)
    assert LabelledBatches(samples, Pipeline([t.DecodeImage("BGR")]), 1, 0).batch(0)["image"].shape[0] == 1
    assert isinstance(LabelledBatches(samples, Pipeline(CHAIN, CHARSET), 2, 0).batch(0)["img_path"], list)


def test_no_samples() -> None:
    with pytest.raises(DataError, match="no samples"):
        LabelledBatches([], Pipeline(CHAIN, CHARSET), 1, 0)


# ---- opening a dataset


def write_labels(tmp_path: Path, name: str, samples: list[RecSample]) -> Path:
    path = tmp_path / name
    rows = [f"{sample.image.relative_to(tmp_path)}\t{sample.text}" for sample in samples]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_label_files_have_shares(tmp_path: Path) -> None:
    a = write_labels(tmp_path, "a.txt", lines(tmp_path / "i", 20))
    b = write_labels(tmp_path, "b.txt", lines(tmp_path / "i", 10, first=100))
    data = dataset(tmp_path, label_files=(a, b), ratios=(0.25, 1.0))
    found = [int(sample.text or "") for sample in open_labelled(data, "rec", 0).samples]  # type: ignore[union-attr]
    assert sum(number < 100 for number in found) == 5
    assert [number for number in found if number >= 100] == list(range(100, 110))
    assert found == sorted(found)
    assert open_labelled(data, "rec", 0) == open_labelled(data, "rec", 0)
    assert open_labelled(data, "rec", 1) != open_labelled(data, "rec", 0)


def test_an_lmdb_is_a_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"num-samples", b"6")
        for number in range(1, 7):
            _, encoded = cv2.imencode(".png", np.full((24, 40, 3), number, np.uint8))
            transaction.put(f"image-{number:09d}".encode(), encoded.tobytes())
            transaction.put(f"label-{number:09d}".encode(), str(number).encode())
    data = dataset(tmp_path, kind="lmdb", data_dir=folder, label_files=(), ratios=(0.5,))
    samples = open_labelled(data, "rec", 0).samples
    assert len(samples) == 3
    made = LabelledBatches(samples, Pipeline(CHAIN, CHARSET), 3, 0)
    for batch in make_ahead(made, 0, 4, 3):  # threads take turns at the database
        assert sorted(texts(batch)) == sorted(int(sample.text or "") for sample in samples)  # type: ignore[union-attr]


def test_missing_data_says_once_where_to_get_it_and_how_it_lies(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_labelled(dataset(tmp_path, data_dir=tmp_path / "d", label_files=(tmp_path / "l.txt",)), "det", 0)
    said = str(caught.value)
    assert "x.yaml:9: Train.dataset" in said
    assert f"{tmp_path / 'd'} is missing" in said
    assert str(tmp_path / "l.txt") in said
    assert "transcription" in said
    assert "ocr_datasets.md" in said
    assert "rrc.cvc.uab.es" in said
    assert "\n" not in said
    missing = dataset(tmp_path, kind="lmdb", data_dir=tmp_path / "d", label_files=())
    with pytest.raises(DataError, match="must hold an LMDB"):
        open_labelled(missing, "rec", 0)


def test_labels_of_the_other_task_are_refused(tmp_path: Path) -> None:
    box = json.dumps([{"transcription": "a", "points": [[0, 0], [5, 0], [5, 5]]}])
    lines(tmp_path / "i", 1)
    (tmp_path / "a.txt").write_text(f"i/0.png\t{box}\n", encoding="utf-8")
    with pytest.raises(DataError, match="text detection"):
        open_labelled(dataset(tmp_path), "rec", 0)
